"""Every state that the page can be in: how to bring it about, and what tells it from the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def no_stream(make: Callable[..., Any]) -> Any:
    return make()


def starting(make: Callable[..., Any]) -> Any:
    rig = make()
    rig.service.engine._say_starting("compiling the kernels")
    return rig


def refusing(make: Callable[..., Any]) -> Any:
    rig = make()
    rig.microscope.say(b"what is this?")
    return rig


def learning(make: Callable[..., Any]) -> Any:
    rig = make(learning_frames=3, ingest={"stall_after_s": 600})
    rig.microscope.send()
    return rig


def live(make: Callable[..., Any]) -> Any:
    rig = make(ingest={"stall_after_s": 600})
    rig.microscope.send()
    return rig


def noise(make: Callable[..., Any]) -> Any:
    rig = make(lattice_found=False, ingest={"stall_after_s": 600})
    rig.microscope.send()
    return rig


def stalled(make: Callable[..., Any]) -> Any:
    rig = make(ingest={"stall_after_s": 0.3})
    rig.microscope.send()
    return rig


def ended(make: Callable[..., Any]) -> Any:
    rig = live(make)
    rig.microscope.end()
    return rig


# the word of the state, a text that only this state has and where it stands, whether the page looks old
STATES: dict[str, tuple[Callable[..., Any], str, tuple[str, str], bool]] = {
    "no stream": (no_stream, "waiting", ("#empty-title", "Waiting for frames"), False),
    "starting": (starting, "starting", ("#empty-source", "Compiling the kernels."), False),
    "refusing": (refusing, "refusing", ("#empty-title", "Messages come, and none can be read"), False),
    "learning": (learning, "learning 1 of 3 frames", ("#learning-text", "1 of 3 frames gathered"), False),
    "live": (live, "live", ("#defect-total", "in this frame"), False),
    "noise": (noise, "live", ("#no-lattice", "No lattice found in this frame."), False),
    "stalled": (stalled, "stalled", ("#banner-text", "Frames have stopped. The picture is frame 1."), True),
    "ended": (
        ended,
        "waiting",
        ("#banner-text", "The series has ended; the next one is waited for. The picture is frame 1."),
        True,
    ),
}


def regions(make: Callable[..., Any]) -> Any:
    """A specimen with dirt on it."""
    rig = make(regions=True, ingest={"stall_after_s": 600})
    rig.microscope.send()
    return rig


def with_keys(make: Callable[..., Any]) -> Any:
    """A service that asks for keys."""
    rig = make(serve={"read_key": "read-me", "control_key": "steer-me"}, ingest={"stall_after_s": 600})
    rig.microscope.send()
    return rig
