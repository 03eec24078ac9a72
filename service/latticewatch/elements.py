"""Atomic columns as a person writes them: ``WS2``, ``Se2,W``, or with what it is doped with, ``WS2:Fe,Te``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from latticewatch.errors import ConfigurationError

SYMBOLS: list[str] = re.findall(
    r"\w+",
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
    "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir "
    "Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf",
)
HEAVIEST = len(SYMBOLS)
_PART = re.compile(r"([A-Z][a-z]?)([1-9]?)")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of one or several atoms of one element.

    Attributes
    ----------
    symbol : str
    atoms : int
        How many lie above each other.
    """

    symbol: str
    atoms: int

    @property
    def z(self) -> int:
        """Atomic number."""
        return SYMBOLS.index(self.symbol) + 1

    def __str__(self) -> str:
        return f"{self.symbol}{self.atoms}" if self.atoms > 1 else self.symbol


def parse_material(text: str) -> tuple[tuple[Column, ...], bool]:
    """Columns of a material.

    Parameters
    ----------
    text : str
        A formula, ``WS2``, in which each element with its number is one column; or the columns of the sublattices,
        brightest first, with commas between: ``Se2,W``. Behind a colon, elements that it is doped with: ``WS2:Fe,Te``.

    Returns
    -------
    columns : tuple of Column
    ordered : bool
        Whether they were given in the order of the sublattices.

    Raises
    ------
    ConfigurationError
        It cannot be read, or names an element that does not exist.
    """
    dopants_of(text)
    crystal = text.partition(":")[0].strip()
    ordered = "," in crystal
    parts = [part.strip() for part in crystal.split(",")] if ordered else _parts(crystal)
    columns = []
    for part in parts:
        match = _PART.fullmatch(part)
        if match is None or match[1] not in SYMBOLS:
            raise ConfigurationError(
                f"material {text!r}: {part!r} is no column of an element; "
                "give a formula such as WS2, or the columns brightest first, such as Se2,W"
            )
        columns.append(Column(match[1], int(match[2] or 1)))
    return tuple(columns), ordered


def dopants_of(text: str) -> tuple[str, ...]:
    """Elements that a material is said to be doped with.

    Parameters
    ----------
    text : str
        As for `parse_material`.

    Returns
    -------
    tuple of str
        Symbols, such as ``("Fe", "Te")``; empty where none are told.

    Raises
    ------
    ConfigurationError
        One of them does not exist.
    """
    _, colon, listed = text.partition(":")
    symbols = tuple(part.strip() for part in listed.split(",")) if colon else ()
    for symbol in symbols:
        if symbol not in SYMBOLS:
            raise ConfigurationError(
                f"material {text!r}: {symbol!r} is no element to be doped with; give symbols behind the colon, such as "
                "WS2:Fe,Te"
            )
    return symbols


def _parts(formula: str) -> list[str]:
    """``WS2`` as ``W`` and ``S2``; whatever cannot be read stays in one piece, for the message."""
    found = [match[0] for match in _PART.finditer(formula)]
    return found if found and "".join(found) == formula else [formula]
