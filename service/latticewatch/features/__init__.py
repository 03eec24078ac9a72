"""A frame and the positions of its sites flow in; Zernike moments, one row a site, flow out."""

from typing import TYPE_CHECKING

from latticewatch.features._disk import ZernikeDisk
from latticewatch.features._symmetry import invariant_names, invariants, mirror_moments, rotate_moments

if TYPE_CHECKING:
    from latticewatch.features._zernike import ZernikeMoments

__all__ = [
    "ZernikeDisk",
    "ZernikeMoments",
    "invariant_names",
    "invariants",
    "mirror_moments",
    "rotate_moments",
]


def __getattr__(name: str) -> object:
    # The estimator brings scikit-learn, which takes a second to import and which no frame needs.
    if name == "ZernikeMoments":
        from latticewatch.features._zernike import ZernikeMoments

        return ZernikeMoments
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
