"""The demo in the terminal: a live table, or a plain line now and then where there is no terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from latticewatch.cli._events import STYLES, event_line
from latticewatch.execute import counts_of
from latticewatch.messages import Counts, Event, Status, colour_of

if TYPE_CHECKING:
    from latticewatch.execute import Engine

EVENTS_SHOWN = 8
PLAIN_EVERY_S = 5.0
PHASE_STYLES = {"waiting": "dim", "learning": "yellow", "live": "bold green", "stalled": "bold red"}
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Head:
    """What stays the same while the demo runs.

    Attributes
    ----------
    specimen : str
        Material and frames, with units.
    dashboard : str
        Address for a browser.
    commands : tuple of (str, str)
        What else can be done from a second terminal: a word for it, and the command.
    frames : int or None
        How many frames are to be analysed.
    """

    specimen: str
    dashboard: str
    commands: tuple[tuple[str, str], ...]
    frames: int | None


@dataclass(frozen=True, slots=True)
class Now:
    """One look at the service."""

    status: Status
    counts: Counts
    separation: dict[int, float | None]
    events: list[Event]


def look(engine: Engine) -> Now:
    """Status, counts and newest events of a running service."""
    state, status = engine.state, engine.status()
    after = max(engine.log.first_seq - 1, engine.log.last_seq - EVENTS_SHOWN)
    events = engine.log.read(after, EVENTS_SHOWN, None)[0]
    return Now(status, counts_of(state), {e.class_id: e.separation for e in state.catalogue}, events)


def screen(head: Head, now: Now) -> RenderableType:
    """The whole live table."""
    top = Table.grid(expand=True)
    top.add_column(ratio=1)
    top.add_column(justify="right")
    top.add_row(Text.assemble(("Latticewatch", "bold"), "  ", head.specimen), _phase(now.status))
    ways = Table.grid(padding=(0, 2))
    ways.add_row("dashboard", Text(head.dashboard, style=f"bold cyan link {head.dashboard}"))
    for word, command in head.commands:
        ways.add_row(word, Text(command, style="cyan"))
    middle = Table.grid(expand=True)
    middle.add_column(ratio=9)
    middle.add_column(ratio=11)
    middle.add_row(_panel("stream", _stream(head, now.status)), _panel(_frame_title(now), _defects(now)))
    return Group(top, ways, middle, _panel("newest events", _events(now.events)))


def plain(head: Head, status: Status, counts: Counts) -> str:
    """The same in one line."""
    frames = status.frames
    dropped = sum(frames.dropped.values())
    of = "" if head.frames is None else f" of {head.frames}"
    parts = [
        _phase(status).plain.removeprefix("● "),
        f"frames: received {frames.received}, analysed {frames.analysed}{of}, dropped {dropped}",
        f"{_number(status.fps, '.1f')} frames/s",
        f"latency {_number(status.latency_ms.p50, '.0f')} ms",
    ]
    if status.n_sites is not None:
        parts.append(f"{status.n_sites} sites")
    if status.phase == "live":
        parts.append(f"{counts.by_role.get('defect', 0)} defects")
    return "; ".join(parts)


class PlainLines:
    """Prints a line when the phase changes, and every few seconds."""

    def __init__(self, console: Console, head: Head) -> None:
        self._console = console
        self._head = head
        self._phase: str | None = None
        self._printed = 0.0

    def update(self, engine: Engine) -> None:
        """Print a line if it is time to."""
        status = engine.status()
        now = time.monotonic()
        if status.phase == self._phase and now - self._printed < PLAIN_EVERY_S:
            return
        self._phase, self._printed = status.phase, now
        self._console.print(plain(self._head, status, counts_of(engine.state)), markup=False, soft_wrap=True)


def _phase(status: Status) -> Text:
    text = status.phase
    if status.phase == "learning":
        gathered, needed = status.learning
        # The frame that completes the learning phase is being learnt from when all others are gathered.
        text = f"learning, {gathered} of {needed} frames"
    if status.phase != "waiting" and status.lattice_found is False:
        text += ", no lattice in view"
    return Text(f"● {text}", style=PHASE_STYLES[status.phase])


def _stream(head: Head, status: Status) -> Table:
    frames = status.frames
    dropped = sum(frames.dropped.values())
    reasons = ", ".join(f"{reason} {n}" for reason, n in frames.dropped.items())
    latency = status.latency_ms
    rows = [
        ("received", str(frames.received), "frames"),
        ("analysed", str(frames.analysed), "frames" if head.frames is None else f"of {head.frames} frames"),
        ("dropped", str(dropped), f"frames ({reasons})" if reasons else "frames"),
        ("in flight", str(frames.in_flight), "frames"),
        ("lost on the way", str(frames.lost_upstream), "frames"),
        ("rate", _number(status.fps, ".1f"), "frames/s"),
        ("latency, median", _number(latency.p50, ".0f"), "ms"),
        ("latency, 99 %", _number(latency.p99, ".0f"), "ms"),
        ("lattice constant", _number(status.lattice_constant_nm, ".4f"), "nm"),
        ("", _number(status.lattice_constant_px, ".2f"), "px"),
        ("sites", _number(status.n_sites, "d"), "per frame"),
        ("model", str(status.model_version) if status.model_version else NOTHING, "version"),
    ]
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", style="bold", no_wrap=True)
    table.add_column(style="dim", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    return table


def _frame_title(now: Now) -> str:
    return "defects" if now.counts.frame is None else f"defects in frame {now.counts.frame}"


def _defects(now: Now) -> RenderableType:
    defects = sorted((one for one in now.counts.by_class if one.role == "defect"), key=lambda one: -one.n)
    if not defects:
        return Text(_waiting_for(now.status), style="dim")
    most = max(max(one.n for one in defects), 1)
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_row("class", "per frame", "", "d′ from host [σ]", style="dim")
    for one in defects:
        colour = colour_of(one.class_id, one.role)
        table.add_row(
            Text.assemble(("● ", colour), one.name),
            Text(str(one.n), style="bold"),
            Bar(most, 0, one.n, color=colour),
            Text(_number(now.separation.get(one.class_id), ".1f")),
        )
    roles = now.counts.by_role
    table.add_row(Text("all defects"), Text(str(roles.get("defect", 0)), style="bold"), "", "")
    rest = (
        f"beside a defect {roles.get('neighbour', 0)}, host {roles.get('host', 0)}, "
        f"unknown {roles.get('unknown', 0)} sites per frame"
    )
    return Group(table, Text(rest, style="dim"))


def _waiting_for(status: Status) -> str:
    if status.phase == "waiting":
        return "waiting for the first frame"
    if status.lattice_found is False:
        return "no lattice in view"
    return "discovering the classes: nobody has said what they are"


def _events(events: list[Event]) -> RenderableType:
    lines = [
        Text(event_line(event), style=STYLES.get(event.type, ""), no_wrap=True, overflow="ellipsis")
        for event in reversed(events)
    ]
    return Group(*lines, *[Text("")] * (EVENTS_SHOWN - len(lines)))


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(
        content, title=Text(title, style="bold"), title_align="left", box=box.ROUNDED, border_style="dim"
    )


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)
