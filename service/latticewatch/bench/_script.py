"""What one would write with motif-learn and scikit-learn: the script that the service is compared with.

Local maxima, patches, Zernike moments, `IncrementalPCA`, nearest centroid. No lattice, so no vacancies; no
whitening, no roles, no tracks.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.decomposition import IncrementalPCA
from sklearn.neighbors import NearestCentroid

N_MAX = 10
COMPONENTS = 10
CLASSES = 8


def find_script() -> Script | None:
    """The script, where motif-learn is installed (extra ``bench``)."""
    if find_spec("mtflearn") is None:
        return None
    from mtflearn.features import KeyPoints, ZPs, local_max  # pyright: ignore[reportMissingImports]

    return Script(KeyPoints, ZPs, local_max)


class Script:
    """The script; it learns from the first frame that it sees.

    Parameters
    ----------
    key_points, polynomials : type
        ``KeyPoints`` and ``ZPs`` of motif-learn.
    local_max : callable
        Of motif-learn, too.
    """

    def __init__(
        self,
        key_points: Callable[..., Any],
        polynomials: Callable[..., Any],
        local_max: Callable[..., NDArray[np.integer]],
    ) -> None:
        self._key_points = key_points
        self._polynomials = polynomials
        self._local_max = local_max
        self._made: dict[int, Any] = {}

    def moments(
        self, image: NDArray[np.float32], positions: NDArray[np.float64], patch_px: int
    ) -> NDArray[np.floating]:
        """Moments of the patches around positions, extraction included.

        Parameters
        ----------
        image : ndarray of shape (height, width), float32
        positions : ndarray of shape (n, 2), float64
            Row and column [px].
        patch_px : int
            Side of the patches [px].

        Returns
        -------
        ndarray of shape (n, n_moments)
        """
        return self._moments_of(self._patches(image, positions, patch_px), patch_px)

    def peaks(self, image: NDArray[np.float32], spacing_px: float) -> NDArray[np.float64]:
        """Local maxima of the smoothed image, no nearer than about half the spacing.

        Parameters
        ----------
        image : ndarray of shape (height, width), float32
        spacing_px : float
            Of the columns [px].

        Returns
        -------
        ndarray of shape (n, 2), float64
            Row and column [px].
        """
        smooth = ndimage.gaussian_filter(image, 0.15 * spacing_px)
        found = self._local_max(smooth, 0.45 * spacing_px, smooth.mean())
        return np.asarray(found, np.float64)[:, ::-1]

    def learn(self, image: NDArray[np.float32], spacing_px: float, patch_px: int) -> Callable[..., dict]:
        """Learn from a frame.

        Parameters
        ----------
        image : ndarray of shape (height, width), float32
        spacing_px : float
            Of the columns [px].
        patch_px : int
            Side of the patches [px].

        Returns
        -------
        callable
            Takes the next frame and returns the seconds of each stage.
        """
        moments = self.moments(image, self.peaks(image, spacing_px), patch_px)
        pca = IncrementalPCA(COMPONENTS).fit(moments)
        scores = pca.transform(moments)
        centroids = NearestCentroid().fit(scores, KMeans(CLASSES, random_state=0).fit_predict(scores))

        def follow(image: NDArray[np.float32]) -> dict[str, float]:
            marks = [time.perf_counter()]

            def lap(value: Any) -> Any:
                marks.append(time.perf_counter())
                return value

            positions = lap(self.peaks(image, spacing_px))
            patches = lap(self._patches(image, positions, patch_px))
            moments = lap(self._moments_of(patches, patch_px))
            scores = lap(pca.partial_fit(moments).transform(moments))
            lap(centroids.predict(scores))
            stages = ("peaks", "patches", "moments", "PCA", "centroids")
            return dict(zip(stages, np.diff(marks).tolist(), strict=True))

        return follow

    def _patches(
        self, image: NDArray[np.float32], positions: NDArray[np.float64], patch_px: int
    ) -> NDArray[np.float32]:
        return self._key_points(positions[:, ::-1], image, patch_px).extract_patches()

    def _moments_of(self, patches: NDArray[np.float32], patch_px: int) -> NDArray[np.floating]:
        if patch_px not in self._made:
            # It warns of high orders on small patches; ours are the same.
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                self._made[patch_px] = self._polynomials(N_MAX, patch_px)
        return np.asarray(self._made[patch_px].fit_transform(patches).data)
