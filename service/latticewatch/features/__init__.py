"""A frame and the positions of its sites flow in; Zernike moments, one row a site, flow out."""

from latticewatch.features._symmetry import invariant_names, invariants, mirror_moments, rotate_moments
from latticewatch.features._zernike import ZernikeMoments

__all__ = ["ZernikeMoments", "invariant_names", "invariants", "mirror_moments", "rotate_moments"]
