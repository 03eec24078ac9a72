"""One frame after another from an adapter to a publisher."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from latticewatch_client.publisher import Publisher


class Grabbed(NamedTuple):
    """A frame and what its header says.

    Attributes
    ----------
    image : ndarray of shape (height, width)
    fields : dict
        Fields of a frame's header, such as ``pixel_size_nm``.
    """

    image: NDArray[Any]
    fields: dict[str, Any]


Grab = Callable[[], Grabbed | None]
"""Gives the next frame, or None while there is no new one."""


def relay(
    grab: Grab,
    publisher: Publisher,
    *,
    frames: int | None = None,
    stop: threading.Event | None = None,
    poll_s: float = 0.02,
) -> int:
    """Publish what an adapter grabs, until so many frames are sent or it is told to stop.

    Parameters
    ----------
    grab : callable
    publisher : Publisher
    frames : int, optional
        How many; without it, for ever.
    stop : threading.Event, optional
        Ends it.
    poll_s : float
        How long to wait where there is no new frame [s].

    Returns
    -------
    int
        How many were sent. A change of shape or pixel size begins a new series.
    """
    stop = stop or threading.Event()
    sent, before = 0, None
    while not stop.is_set() and (frames is None or sent < frames):
        grabbed = grab()
        if grabbed is None:
            stop.wait(poll_s)
            continue
        kind = grabbed.image.shape, grabbed.fields.get("pixel_size_nm")
        if before is not None and kind != before:
            publisher.start()
        before = kind
        publisher.publish(grabbed.image, **grabbed.fields)
        sent += 1
    return sent
