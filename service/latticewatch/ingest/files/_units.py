"""A unit as people and programs write it, in; what it measures and how large it is, out."""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["length", "reciprocal", "angle", "time", "energy", "none", "unknown"]


@dataclass(frozen=True, slots=True)
class Unit:
    """What one unit of an axis is.

    Attributes
    ----------
    kind : str
        What it measures; ``none`` where nothing is said, ``unknown`` where it cannot be read.
    factor : float
        Nanometres of a length, seconds of a time, 1 of anything else.
    """

    kind: Kind
    factor: float = 1.0


NONE = Unit("none")
UNKNOWN = Unit("unknown")
# Written where there is no calibration; pixels are counted, not measured.
_COUNTS = {"", "px", "pixel", "pixels", "none", "<undefined>", "undefined", "unknown", "unit", "units",
           "null", "nan", "a.u.", "au", "arb. units", "index", "counts", "count", "dimensionless", "frame",
           "frames"}  # fmt: skip
# A is the ampere to a physicist and the angstrom to a microscopist; the rest only saves the parser.
_NM = {
    "nm": 1.0, "pm": 1e-3, "a": 0.1, "å": 0.1, "ang": 0.1, "angs": 0.1, "angstrom": 0.1, "angstroms": 0.1,
    "ångström": 0.1, "ångstrom": 0.1, "angström": 0.1, "um": 1e3, "μm": 1e3, "micron": 1e3, "microns": 1e3,
    "mm": 1e6, "cm": 1e7, "m": 1e9, "fm": 1e-6,
}  # fmt: skip
_S = {"s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6,
      "μs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "hr": 3600.0}  # fmt: skip
_ENERGY = {"ev", "kev", "mev", "j"}
_ANGLE = {"rad", "mrad", "urad", "μrad", "deg", "degree", "degrees", "°"}
_INVERSE = re.compile(r"^(?:inverse|inv\.?|reciprocal|rec\.?)\s*", re.IGNORECASE)
_PER_PIXEL = re.compile(r"\s*(?:/|per)\s*(?:px|pixels?)$", re.IGNORECASE)
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})")


def unit_of(text: Any) -> Unit:
    r"""Read a unit in any spelling.

    Parameters
    ----------
    text : str or bytes or None
        ``nm``, ``n_m`` and ``[n_m]`` (openNCEM), ``microns``, ``1 / nm``, ``nm^-1``, ``\u00b5m`` …

    Returns
    -------
    Unit
    """
    return _parsed(plain(text))


def plain(text: Any) -> str:
    """The unit with one code point for each letter, and without brackets, escapes and underscores."""
    if text is None:
        return ""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            text = text.decode("latin-1")
    said = html.unescape(str(text).strip().strip("\0"))
    said = _ESCAPED.sub(lambda match: chr(int(match[1] or match[2], 16)), said)
    # bytes of UTF-8 that were read as Latin-1: Âµm
    if "Â" in said or "Ã" in said or "Î" in said:
        try:
            said = said.encode("latin-1").decode("utf-8")
        except UnicodeError:
            said = said.replace("Â", "")
    said = said.translate(_SUPERSCRIPTS)
    said = unicodedata.normalize("NFKC", said).replace("_", "").replace("−", "-")
    while said[:1] + said[-1:] in ("[]", "()", "{}"):
        said = said[1:-1].strip()
    return " ".join(said.split())


_SUPERSCRIPTS = str.maketrans({"⁻": "^-", "¹": "1", "²": "2", "³": "3"})


@functools.lru_cache(maxsize=256)
def _parsed(said: str) -> Unit:
    said = _PER_PIXEL.sub("", said)
    if said.lower() in _COUNTS:
        return NONE
    if (inner := _INVERSE.sub("", said)) != said:
        return Unit("reciprocal") if _parsed(inner).kind == "length" else UNKNOWN
    power = re.fullmatch(r"\(?([^\W\d]+\.?)\)?\s*(?:\^|\*\*)?\s*\(?-\s*1\)?", said)
    over = re.fullmatch(r"1(?:\.0*)?\s*/\s*\(?(.+?)\)?", said)
    if below := over or power:
        return Unit("reciprocal") if _parsed(below[1]).kind == "length" else UNKNOWN
    for spelling in (said, said.lower()):
        if spelling in _NM:
            return Unit("length", _NM[spelling])
        if spelling in _S:
            return Unit("time", _S[spelling])
        if spelling.lower() in _ENERGY:
            return Unit("energy")
        if spelling in _ANGLE:
            return Unit("angle")
    return _by_pint(said)


def _by_pint(said: str) -> Unit:
    """Any other spelling: pint knows what people write out."""
    try:
        registry = _registry()
    except ModuleNotFoundError:
        return UNKNOWN
    for spelling in (said, said.lower()):
        try:
            quantity = registry.Quantity(1.0, registry.parse_units(spelling))
        except Exception:  # noqa: BLE001, S112  pint raises whatever its tokenizer does
            continue
        kinds: tuple[tuple[Kind, str], ...] = (("length", "nm"), ("time", "s"), ("energy", "eV"))
        for kind, unit in kinds:
            if quantity.check(registry.get_dimensionality(unit)):
                return Unit(kind, 1.0 if kind == "energy" else float(quantity.to(unit).magnitude))
        if quantity.check(registry.get_dimensionality("1/nm")):
            return Unit("reciprocal")
        if quantity.dimensionless and str(quantity.units).endswith(("radian", "degree")):
            return Unit("angle")
    return UNKNOWN


@functools.cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()
