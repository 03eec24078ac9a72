"""Names of columns and estimates of atomic numbers, where a person has said what the material is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latticewatch.elements import HEAVIEST, SYMBOLS, Column, parse_material

# The signal of an atom grows as a power of its atomic number. Multislice scenes of WS2, MoSe2 and graphene give
# exponents from 1.1 to 2.0, depending on the elements compared, the detector and the vibration of the atoms.
EXPONENT = 1.7
EXPONENT_RANGE = (1.1, 2.0)
# How far the exponent between other elements may be from that between the host columns.
EXPONENT_SPREAD = 0.3
# Logarithm of the ratio of two atomic numbers from which the host columns themselves measure the exponent.
MIN_CONTRAST = 0.3
# Nothing lighter can be told from nothing at all.
LIGHTEST = 5


def material_columns(material: str | None, heights: Sequence[float]) -> tuple[Column, ...] | None:
    """Column of each sublattice.

    Parameters
    ----------
    material : str or None
        See `parse_material`. Of a formula, the column with the largest atoms x Z^1.7 is the brightest sublattice; one
        element alone stands on all of them.
    heights : sequence of float
        Of the host column of each sublattice, brightest first.

    Returns
    -------
    tuple of Column or None
        None without a material, or where it has not as many columns as the lattice: then it is not this one.
    """
    if material is None:
        return None
    columns, ordered = parse_material(material)
    if len(columns) == 1:
        columns = columns * len(heights)
    if len(columns) != len(heights):
        return None
    return columns if ordered else tuple(sorted(columns, key=lambda c: -c.atoms * c.z**EXPONENT))


def signal_exponents(columns: Sequence[Column], heights: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest exponent of the signal of an atom that one has to reckon with.

    Measured between the host columns where their elements differ enough, else all that is known of any material.
    """
    z = np.log([column.z for column in columns])
    signal = np.log([max(h, 1e-6) / column.atoms for h, column in zip(heights, columns, strict=True)])
    if np.ptp(z) < MIN_CONTRAST:
        return EXPONENT_RANGE
    measured = float(np.polyfit(z, signal, 1)[0])
    low, high = np.clip([measured - EXPONENT_SPREAD, measured + EXPONENT_SPREAD], *EXPONENT_RANGE)
    return (float(low), float(high)) if low < high else EXPONENT_RANGE


def atomic_numbers(
    column: Column, height: float, change: float, exponents: tuple[float, float]
) -> tuple[int, int] | None:
    """Lightest and heaviest atom that may have replaced one of a column's, from what it did to the height.

    Parameters
    ----------
    column : Column
        The host.
    height : float
        Of the host.
    change : float
        Of the height.
    exponents : tuple of float
        See `signal_exponents`.

    Returns
    -------
    tuple of int or None
        Atomic numbers; None where no element would do that.
    """
    ratio = 1 + column.atoms * change / height
    if ratio <= 0:
        return None
    low, high = sorted(round(column.z * ratio ** (1 / exponent)) for exponent in exponents)
    if high < LIGHTEST or low > HEAVIEST:
        return None
    return max(low, LIGHTEST), min(high, HEAVIEST)


def dopant_names(column: Column, numbers: tuple[int, int], dopants: Sequence[str]) -> tuple[str, ...]:
    """Which of the elements that a specimen is doped with an atom of a column can have been replaced by.

    Parameters
    ----------
    column : Column
        The host.
    numbers : tuple of int
        Lightest and heaviest atomic number, as `atomic_numbers` gives them.
    dopants : sequence of str
        Symbols that a person has told.

    Returns
    -------
    tuple of str
        Symbols, lightest first.
    """
    low, high = numbers
    possible = set(dopants) - {column.symbol}
    return tuple(symbol for symbol in SYMBOLS[low - 1 : high] if symbol in possible)
