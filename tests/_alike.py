"""Whether two parts of JSON say the same."""

from __future__ import annotations

import math


def alike(one: object, other: object, rel_tol: float, abs_tol: float) -> bool:
    """Whether two parts of JSON are the same but for the last digits of their numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            alike(one[key], other[key], rel_tol, abs_tol) for key in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            alike(*pair, rel_tol, abs_tol) for pair in zip(one, other, strict=True)
        )
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=rel_tol, abs_tol=abs_tol)
    return one == other
