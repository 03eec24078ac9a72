"""The measured lattice beside known ones: a pixel size that fits none of them does not pass without a word."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from latticewatch.elements import parse_material
from latticewatch.messages import Note

# A pixel size is seldom known better than this; scan distortion and strain are below it.
SIZE_AGREES = 0.04
ANGLE_AGREES_DEG = 3.0
RATIO_AGREES = 0.04


@dataclass(frozen=True, slots=True)
class Known:
    """The cell that a crystal shows in projection, reduced: the shorter side, the longer one, and the angle up to 90°.

    Attributes
    ----------
    formula : str
        As a person writes it.
    view : str
        Along which direction it is seen, where there are several.
    a_nm, b_nm : float
        Sides of the primitive cell of the projection [nm].
    angle_deg : float
    """

    formula: str
    view: str
    a_nm: float
    b_nm: float
    angle_deg: float

    def __str__(self) -> str:
        return f"{self.formula} {self.view}".strip()


def _hexagonal(**a_nm: float) -> list[Known]:
    return [Known(formula, "", a, a, 60.0) for formula, a in a_nm.items()]


def _cubic(view: str, divided_by: float, **a_nm: float) -> list[Known]:
    return [Known(formula, view, a / divided_by, a / divided_by, 90.0) for formula, a in a_nm.items()]


# Room temperature, from the crystal structures that handbooks and the Crystallography Open Database give.
KNOWN: tuple[Known, ...] = (
    *_hexagonal(C=0.2461, BN=0.2504, Mg3Sb2=0.4562, CrI3=0.6867, Bi2Se3=0.4143, Bi2Te3=0.4384, Sb2Te3=0.4264),
    *_hexagonal(MoS2=0.3160, WS2=0.3153, MoSe2=0.3289, WSe2=0.3282, MoTe2=0.3519, NbS2=0.3324, NbSe2=0.3443),
    *_hexagonal(TaS2=0.3364, TaSe2=0.3436, TiS2=0.3407, TiSe2=0.3540, VSe2=0.3356, SnS2=0.3648, SnSe2=0.3811),
    *_hexagonal(PtS2=0.3543, PtSe2=0.3728, PtTe2=0.4026, HfS2=0.3630, ZrS2=0.3662, ReSe2=0.6597, GaS=0.3587),
    *_hexagonal(GaSe=0.3755, InSe=0.4002, GaN=0.3189, AlN=0.3112, InN=0.3538, ZnO=0.3250, CdSe=0.4299, SiC=0.3081),
    *_cubic("[001]", 1.0, SrTiO3=0.3905, BaTiO3=0.3994, LaAlO3=0.3790, KTaO3=0.3989, BiFeO3=0.3965, PbTiO3=0.3904),
    *_cubic("[001]", 2**0.5, Au=0.4078, Ag=0.4086, Pt=0.3924, Pd=0.3890, Al=0.4049, Cu=0.3615, Ni=0.3524),
    *_cubic("[001]", 2**0.5, MgO=0.4212, NaCl=0.5640, PbS=0.5936, PbSe=0.6124, PbTe=0.6462),
    *_cubic("[001]", 8**0.5, Si=0.5431, Ge=0.5658),
    *_cubic("[001]", 8**0.5, GaAs=0.5653, InP=0.5869, InAs=0.6058, CdTe=0.6482, ZnSe=0.5668),
    Known("P", "", 0.3314, 0.4376, 90.0),
    Known("CrSBr", "", 0.3504, 0.4738, 90.0),
    Known("SnSe", "", 0.4153, 0.4445, 90.0),
    Known("WTe2", "", 0.3496, 0.6282, 90.0),
)  # fmt: skip


def lattice_notes(
    vectors_px: ArrayLike, pixel_size_nm: float | None, material: str | None = None
) -> tuple[Note, ...]:
    """What is to be said of the measured lattice beside known ones.

    Parameters
    ----------
    vectors_px : array_like of shape (2, 2)
        Lattice vectors as rows (row, col) [px].
    pixel_size_nm : float or None
        Without one there is nothing to compare.
    material : str, optional
        What the specimen is said to be, as in `latticewatch.elements.parse_material`.

    Returns
    -------
    tuple of Note
        Empty where the lattice fits the material or, without a material, any known lattice.

    Notes
    -----
    A material that is not in the table is not compared: then its size is taken as it is. A disagreement is said, never
    mended.
    """
    if pixel_size_nm is None:
        return ()
    a, b, angle = _reduced(np.asarray(vectors_px, float) * pixel_size_nm)
    of_material = (
        [] if material is None else [known for known in KNOWN if _same_formula(known.formula, material)]
    )
    if material is not None and not of_material:
        return ()
    known = of_material or KNOWN
    alike = [one for form, those in _by_form(tuple(known)) if _same_form(form, b / a, angle) for one in those]
    name = of_material[0].formula if of_material else "a known material"
    measured = f"{a:.3g} nm" if math.isclose(a, b, rel_tol=RATIO_AGREES) else f"{a:.3g} × {b:.3g} nm"
    if not alike:
        if not of_material:
            return ()  # many crystals are not in the table
        cells = ", ".join(f"{one.a_nm:.3g} × {one.b_nm:.3g} nm, {one.angle_deg:.0f}°" for one in of_material)
        return (
            Note(
                code="lattice-is-not-of-material",
                text=f"A cell of {measured} with {angle:.0f}° is none of {name} ({cells}).",
                remedy="Check the material, the zone axis, and whether both axes of the scan have the same pixel size.",
            ),
        )
    nearest = min(alike, key=lambda one: _off(a, one))
    if _fits(a, nearest):
        return ()
    factor = a / nearest.a_nm
    fits = (
        f"no lattice of {name}"
        if of_material
        else f"no lattice that is known here, of which {nearest} is nearest"
    )
    other = "" if of_material else ", or another crystal"
    return (
        Note(
            code="pixel-size-doubtful",
            text=f"{measured} fits {fits} ({nearest.a_nm:.3g}) at {pixel_size_nm:.4g} nm/px: "
            f"pixel size {_how_wrong(factor)}{other}?",
            remedy=f"For {nearest} it would be {pixel_size_nm / factor:.4g} nm/px. Calibrate, or correct the material.",
        ),
    )


def lattices_like(vectors_px: ArrayLike, pixel_size_nm: float | None) -> tuple[str, ...]:
    """Known lattices that a measured one may be, the nearest first.

    Parameters
    ----------
    vectors_px : array_like of shape (2, 2)
        Lattice vectors as rows (row, col) [px].
    pixel_size_nm : float or None
        Without one there is nothing to compare.

    Returns
    -------
    tuple of str
        As "MoS2 0.316 nm"; empty where none agrees.
    """
    if pixel_size_nm is None:
        return ()
    a, b, angle = _reduced(np.asarray(vectors_px, float) * pixel_size_nm)
    like = [one for one in KNOWN if _same_form(one, b / a, angle) and _fits(a, one)]
    return tuple(f"{one} {one.a_nm:.3g} nm" for one in sorted(like, key=lambda one: _off(a, one)))


def _how_wrong(factor: float) -> str:
    if factor > 2:
        return f"{factor:.2g} times too large"
    if factor < 0.5:
        return f"{1 / factor:.2g} times too small"
    return f"{abs(factor - 1):.0%} too {'large' if factor > 1 else 'small'}".replace("%", " %")


def _reduced(vectors: np.ndarray) -> tuple[float, float, float]:
    """Shorter side, longer side and angle up to 90° of the cell with the shortest sides (Lagrange, Gauss)."""
    a, b = vectors
    for _ in range(64):
        if a @ a > b @ b:
            a, b = b, a
        steps = round(float(a @ b) / float(a @ a))
        if steps == 0:
            break
        b = b - steps * a
    sides = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    cosine = abs(float(a @ b)) / (sides[0] * sides[1])
    return (*sides, math.degrees(math.acos(min(1.0, cosine))))


@lru_cache(maxsize=8)
def _by_form(known: tuple[Known, ...]) -> list[tuple[Known, list[Known]]]:
    """Those that have one form together, with the first of them."""
    forms: dict[tuple[float, float], list[Known]] = {}
    for one in known:
        forms.setdefault((one.b_nm / one.a_nm, one.angle_deg), []).append(one)
    return [(those[0], those) for those in forms.values()]


def _same_form(known: Known, ratio: float, angle: float) -> bool:
    return abs(known.angle_deg - angle) <= ANGLE_AGREES_DEG and math.isclose(
        known.b_nm / known.a_nm, ratio, rel_tol=RATIO_AGREES
    )


def _off(a_nm: float, known: Known) -> float:
    """How far a side is from that of a known lattice, as a logarithm."""
    return abs(math.log(a_nm / known.a_nm))


def _fits(a_nm: float, known: Known) -> bool:
    return abs(a_nm / known.a_nm - 1) <= SIZE_AGREES


@lru_cache(maxsize=64)
def _same_formula(one: str, other: str) -> bool:
    return _atoms(one) == _atoms(other)


def _atoms(material: str) -> Counter[str]:
    atoms: Counter[str] = Counter()
    for column in parse_material(material)[0]:
        atoms[column.symbol] += column.atoms
    return atoms
