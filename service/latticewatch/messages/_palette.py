"""Colours and shapes of classes: they belong to what a class is, and stay over versions, restarts and microscopes."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from latticewatch.messages._events import Role

Shape = Literal["circle", "down", "up", "diamond", "square", "hexagon", "dot"]

UNKNOWN = "#ffffff"
# Okabe and Ito (2008) without black, so that the colour-blind tell them apart; shape is the second sign.
ORANGE, SKY, GREEN, YELLOW = "#e69f00", "#56b4e9", "#009e73", "#f0e442"
BLUE, VERMILLION, PURPLE = "#2f86d6", "#d55e00", "#cc79a7"
# Of each sublattice in turn: warm hues on A, cool ones on B, what is left on C; others follow when these are taken.
FAMILIES = (
    (ORANGE, VERMILLION, YELLOW, PURPLE, SKY, GREEN, BLUE),
    (SKY, GREEN, BLUE, PURPLE, YELLOW, ORANGE, VERMILLION),
    (PURPLE, YELLOW, GREEN, SKY, ORANGE, BLUE, VERMILLION),
)
# A column that is gone is not drawn in the colour of one that is weaker: lines of a chart have no shape.
GONE = (YELLOW, PURPLE, GREEN)
# Hosts stay in the background: a greyed blue of its own for each sublattice.
HOSTS = ("#8d99ae", "#6c8fa8", "#a8b3c4", "#7d8597")
# A name that a person gave is drawn with any of these; the other shapes follow the kind of change.
NAMED: tuple[Shape, ...] = ("hexagon", "diamond", "square", "circle", "up", "down")
# Changes of a column's height that part the colours of one kind [share of the host's height].
WEAKER = (-0.30, -0.55)
STRONGER = (0.35, 1.0)
ARROWS = "→↗↑↖←↙↓↘"

_SUBLATTICE = r"(?:[A-Z]|L\d+)"
_LETTER = rf"(?P<letter>{_SUBLATTICE})"
_CHANGE = r"(?P<change>[+−-]?\d+(?:\.\d+)?) %"
VACANCY = re.compile(rf"^{_LETTER} vacancy\b")
HEIGHT = re.compile(rf"^{_LETTER} {_CHANGE}")
DISPLACED = re.compile(rf"^{_LETTER} displaced\b")
OFF_LATTICE = re.compile(rf"^off lattice(?: {_SUBLATTICE}–{_SUBLATTICE})?(?:, {_LETTER} {_CHANGE})?")
ODD = re.compile(rf"^(?:{_LETTER} )?odd\b")
BESIDE = re.compile(rf"^{_LETTER} beside (?P<defect>.+?)(?: [{ARROWS}])?(?: \(\d+\))?$")


@dataclass(frozen=True, slots=True)
class Sign:
    """How the sites of a class are drawn.

    Attributes
    ----------
    colour : str
        ``#rrggbb``.
    shape : str
        ``circle`` a column that is gone, ``down`` a weaker one, ``up`` a stronger one, ``diamond`` a displaced one,
        ``square`` one off the lattice, ``hexagon`` odd in another way, ``dot`` a host or a neighbour.
    """

    colour: str
    shape: Shape


def sign_of(name: str, role: Role) -> Sign:
    """The sign of a class by itself; `signs_of` also keeps the classes of one catalogue apart.

    Parameters
    ----------
    name : str
        As the class is called.
    role : {"host", "defect", "neighbour", "unknown"}

    Returns
    -------
    Sign
    """
    if role == "unknown":
        return Sign(UNKNOWN, "circle")
    if role == "host":
        return Sign(HOSTS[_index(name[:1]) % len(HOSTS)], "dot")
    if role == "neighbour":
        beside = BESIDE.match(name)
        return Sign(quiet(sign_of(beside["defect"], "defect").colour) if beside else "#9a94a8", "dot")
    shape, family, place = _meaning(name)
    return Sign(family[place], shape)


def signs_of(classes: Iterable[tuple[int, str, Role]]) -> dict[int, Sign]:
    """Signs of the classes of a catalogue: no two kinds of defects look the same.

    What a class *is* decides: the name that a person gave, else sublattice, kind and change. Ids and order do not.
    Neighbours take the hue of the defect that they are named after.

    Parameters
    ----------
    classes : iterable of tuple
        Id, name and role of each.

    Returns
    -------
    dict of int to Sign
        By id.
    """
    classes = list(classes)
    signs = {number: sign_of(name, role) for number, name, role in classes}
    taken: set[Sign] = set()
    colours: dict[str, str] = {}
    # In the order of the ids: a class that is born later never takes the sign of one that is there.
    for number, name, role in sorted(classes):
        if role != "defect":
            continue
        shape, family, place = _meaning(name)
        shapes: tuple[Shape, ...] = (shape, *(other for other in NAMED if other != shape))
        turns = (
            Sign(family[(place + step) % len(family)], one) for one in shapes for step in range(len(family))
        )
        signs[number] = next((sign for sign in turns if sign not in taken), signs[number])
        taken.add(signs[number])
        colours[name] = signs[number].colour
    for number, name, role in classes:
        beside = BESIDE.match(name) if role == "neighbour" else None
        if beside and beside["defect"] in colours:
            signs[number] = Sign(quiet(colours[beside["defect"]]), "dot")
    return signs


def colour_of(name: str, role: Role) -> str:
    """Colour ``#rrggbb`` of a class by itself.

    Parameters
    ----------
    name : str
        As the class is called.
    role : {"host", "defect", "neighbour", "unknown"}

    Returns
    -------
    str
    """
    return sign_of(name, role).colour


def quiet(colour: str) -> str:
    """The same hue, closer to grey: neighbours are seen, but do not shout."""
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(0.55 * channel + 0.45 * 140):02x}" for channel in channels)


def _meaning(name: str) -> tuple[Shape, tuple[str, ...], int]:
    """Shape, colours in the order of preference, and the first of them."""
    if found := VACANCY.match(name):
        return (
            "circle",
            _family(found["letter"]),
            _family(found["letter"]).index(GONE[_index(found["letter"]) % len(GONE)]),
        )
    if found := HEIGHT.match(name):
        change = _share(found["change"])
        if change < 0:
            return "down", _family(found["letter"]), _bin(-change, *(-edge for edge in WEAKER))
        return "up", _family(found["letter"]), _bin(change, *STRONGER)
    if found := DISPLACED.match(name):
        arrow = next((ARROWS.index(sign) for sign in name if sign in ARROWS), 0)
        return "diamond", _family(found["letter"]), arrow % 4
    if found := OFF_LATTICE.match(name):
        change = _share(found["change"]) if found["change"] else 0.0
        return "square", FAMILIES[2], _bin(abs(change), *STRONGER)
    if found := ODD.match(name):
        return "hexagon", _family(found["letter"] or "A"), 2
    mark = zlib.crc32(name.encode())
    return NAMED[mark % len(NAMED)], FAMILIES[0], mark // len(NAMED) % len(FAMILIES[0])


def _share(percent: str) -> float:
    return float(percent.replace("−", "-")) / 100


def _bin(size: float, middle: float, large: float) -> int:
    """Large changes have the second colour of a family, the usual ones the first, small ones the third."""
    return 1 if size > large else 0 if size > middle else 2


def _index(letter: str) -> int:
    return (
        ord(letter) - ord("A") if len(letter) == 1 and "A" <= letter <= "Z" else zlib.crc32(letter.encode())
    )


def _family(letter: str) -> tuple[str, ...]:
    return FAMILIES[_index(letter) % len(FAMILIES)]
