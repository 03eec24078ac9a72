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
CLASSES_SHOWN = 7
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
    logged = engine.log.read(after, EVENTS_SHOWN, None)[0]
    events = [Event.model_validate_json(one.json()) for one in logged]
    return Now(status, counts_of(state), {e.class_id: e.separation for e in state.catalogue}, events)


def screen(head: Head, now: Now, console: Console) -> RenderableType:
    """The whole live table, with as many events as fit into the terminal."""
    top = Table.grid(expand=True, padding=(0, 2, 0, 0))
    top.add_column(no_wrap=True)
    top.add_column(ratio=1, overflow="fold")
    top.add_column(justify="right", no_wrap=True)
    top.add_row(Text("Latticewatch", style="bold"), head.specimen, _phase(now.status))
    top.add_row("dashboard", Text(head.dashboard, style=f"bold cyan link {head.dashboard}"), "")
    for word, command in head.commands:
        top.add_row(word, Text(command, style="cyan"), "")
    top.add_row("end", Text("Ctrl-C", style="cyan"), "")
    stream, defects = _stream(head, now.status), _defects(now)
    lines = max(stream.row_count, defects.row_count)
    middle = Table.grid(expand=True)
    middle.add_column(ratio=9)
    middle.add_column(ratio=11)
    middle.add_row(_panel("stream", stream, lines), _panel(_frame_title(now), defects, lines))
    # Four borders, and the line below the table where the cursor is.
    room = console.height - len(console.render_lines(top)) - lines - 5
    events = max(1, min(EVENTS_SHOWN, room))
    return Group(top, middle, _panel("newest events", _events(now.events[-events:]), events))


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
        text = f"learning, {gathered} of {needed} frames"
    if status.phase != "waiting" and status.lattice_found is False:
        text += ", no lattice in view"
    return Text(f"● {text}", style=PHASE_STYLES[status.phase])


def _stream(head: Head, status: Status) -> Table:
    frames, latency = status.frames, status.latency_ms
    rows = [
        ("received", str(frames.received), "frames"),
        ("analysed", str(frames.analysed), "frames" if head.frames is None else f"of {head.frames} frames"),
        ("dropped", str(sum(frames.dropped.values())), f"frames{_reasons(frames.dropped)}"),
        ("in flight", str(frames.in_flight), "frames"),
        ("lost on the way", str(frames.lost_upstream), "frames"),
        ("rate", _number(status.fps, ".1f"), "frames/s"),
        ("latency, median", _number(latency.p50, ".0f"), "ms"),
        ("latency, 99 %", _number(latency.p99, ".0f"), "ms"),
        ("lattice constant", _number(status.lattice_constant_nm, ".4f"), "nm"),
        ("", _number(status.lattice_constant_px, ".2f"), "px"),
        ("sites", _number(status.n_sites, "d"), "per frame"),
        ("model version", str(status.model_version or NOTHING), ""),
    ]
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", style="bold", no_wrap=True, min_width=7)
    table.add_column(style="dim", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    return table


def _reasons(dropped: dict[str, int]) -> str:
    if len(dropped) < 2:
        return "".join(f" ({reason})" for reason in dropped)
    return f" ({', '.join(f'{reason} {n}' for reason, n in dropped.items())})"


def _frame_title(now: Now) -> str:
    return "defects" if now.counts.frame is None else f"defects in frame {now.counts.frame}"


def _defects(now: Now) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True, min_width=5)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True, min_width=6)
    defects = sorted((one for one in now.counts.by_class if one.role == "defect"), key=lambda one: -one.n)
    if not defects:
        table.add_row(Text(_waiting_for(now.status), style="dim"))
        return table
    most = max(defects[0].n, 1)
    table.add_row("class", "sites", "", "d′ [σ]", style="dim")
    for one in defects[:CLASSES_SHOWN]:
        colour = colour_of(one.name, one.role)
        table.add_row(
            Text.assemble(("● ", colour), one.name),
            Text(str(one.n), style="bold"),
            Bar(most, 0, one.n, color=colour),
            Text(_number(now.separation.get(one.class_id), ".1f")),
        )
    rest = defects[CLASSES_SHOWN:]
    if rest:
        table.add_row(
            Text(f"  {len(rest)} more classes"), Text(str(sum(one.n for one in rest)), style="bold")
        )
    table.add_row()
    roles = now.counts.by_role
    for word, n in (
        ("all defects", roles.get("defect", 0)),
        ("beside a defect", roles.get("neighbour", 0)),
        ("unknown", roles.get("unknown", 0)),
    ):
        table.add_row(Text(f"  {word}", style="dim"), Text(str(n), style="bold"))
    return table


def _waiting_for(status: Status) -> str:
    if status.phase == "waiting":
        return "waiting for the first frame"
    if status.lattice_found is False:
        return "no lattice in view"
    return "discovering the classes: nobody has said what they are"


def _events(events: list[Event]) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for event in reversed(events):
        clock, seq, kind, what = event_line(event).split(maxsplit=3)
        what = _defect(event) if kind.startswith("defect.") else what
        table.add_row(clock, seq, kind, Text(what), style=STYLES.get(event.type, ""))
    return table


def _defect(event: Event) -> str:
    """What happened to a defect, in what fits into a terminal of 80 characters."""
    data = event.data
    before = data.get("previous_class_name")
    name = f"{before} → {data['class_name']}" if before else data["class_name"]
    nm = data.get("nm")
    px = data["px"]
    where = f"x {nm['x']:5.2f} y {nm['y']:5.2f} nm" if nm else f"row {px['row']:.1f} col {px['col']:.1f} px"
    return f"{name:<11} {data['confidence']:5.0%}   {where}   frame {data['frame']}   track {data['track']}"


def _panel(title: str, content: RenderableType, lines: int) -> Panel:
    return Panel(
        content,
        title=Text(title, style="bold"),
        title_align="left",
        box=box.ROUNDED,
        border_style="dim",
        height=lines + 2,
    )


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)
