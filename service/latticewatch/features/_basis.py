"""Zernike polynomials, and the same as sums of products of a polynomial in x and one in y."""

from __future__ import annotations

from functools import lru_cache
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from latticewatch.features._simd import LANES

# Legendre polynomials of x / REACH. Inside the disk, their products cancel least at this value: float32
# sums of a 128 px patch with n_max = 10 are good to 2e-6, against 3e-5 at 1 (and 1e-4 with plain powers).
REACH = 0.8
# Orders in y that the kernel sums at once, in one register each: the even ones, then the odd ones.
ORDERS = np.array([0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11])
KERNEL_N_MAX = 11


def orders(n_max: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Radial and azimuthal orders n, m up to `n_max`, sorted by (n, m); m < 0 stands for sines."""
    pairs = [(n, m) for n in range(n_max + 1) for m in range(-n, n + 1, 2)]
    n, m = np.array(pairs, dtype=np.int64).T
    return n, m


def polynomials(n_max: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Real Zernike polynomials at points, also outside the unit disk.

    Parameters
    ----------
    n_max : int
        Highest radial order.
    x, y : ndarray of equal shape
        Points; the edge of the disk is at x² + y² = 1.

    Returns
    -------
    ndarray of shape (n_orders, *x.shape), float64
        Normalised to a mean square of 1 over the disk.

    Notes
    -----
    Born and Wolf, Principles of Optics, 7th edition, section 9.2.1, eq. (5), with the normalisation
    sqrt(2 (n + 1) / (1 + δ_m0)) of Noll (1976), doi:10.1364/JOSA.66.000207.
    """
    rho, theta = np.hypot(x, y), np.arctan2(y, x)
    values = []
    for n, m in zip(*orders(n_max), strict=True):
        a = abs(int(m))
        radial = np.zeros_like(rho)
        for k in range((n - a) // 2 + 1):
            ways = factorial(k) * factorial((n + a) // 2 - k) * factorial((n - a) // 2 - k)
            radial += (-1) ** k * (factorial(n - k) // ways) * rho ** (n - 2 * k)
        angular = np.sin(a * theta) if m < 0 else np.cos(a * theta)
        values.append(np.sqrt(2 * (n + 1) / (1 + (m == 0))) * radial * angular)
    return np.array(values)


@lru_cache(maxsize=4)
def disk_basis(n_max: int, size: int) -> NDArray[np.float64]:
    """Zernike polynomials on the pixels (linspace(-1, 1, size) in x and y), zero outside the disk."""
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, size)])
    basis = np.where(disk(size), polynomials(n_max, x, y), 0.0)
    basis.flags.writeable = False
    return basis


def disk(size: int) -> NDArray[np.bool_]:
    """Pixels of a patch inside the unit disk.

    Rounded as motif-learn rounds it, so that pixels exactly on the circle fall on the same side. At a few
    odd sizes (123, 211, 235 …) that leaves one of a set of equivalent pixels out.
    """
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, size)])
    return np.sqrt(x**2 + y**2) <= 1


class Tables(NamedTuple):
    """What the kernel needs to know about one patch size.

    Attributes
    ----------
    masks : ndarray of shape (size, width), uint32
        All bits set inside the disk; `width` is the size rounded up to whole vectors.
    first : ndarray of shape (width // LANES,), int64
        First row in which a vector of columns touches the disk.
    along_y : ndarray of shape (n_pairs, 12), float32
        Legendre polynomials, in the sequence of `ORDERS`, of the upper row of each pair of rows (y, -y).
    along_x : ndarray of shape (size, n_max + 1 rounded up to LANES), float32
        Legendre polynomials of the columns.
    start : ndarray of shape (12,), int64
        First term of each of `ORDERS`; that behind the last where an order is above `n_max`.
    conversion : ndarray of shape (n_terms, n_orders), float32
        From separable moments (order j in y, then i in x, i + j ≤ n_max) to Zernike moments.
    """

    masks: NDArray[np.uint32]
    first: NDArray[np.int64]
    along_y: NDArray[np.float32]
    along_x: NDArray[np.float32]
    start: NDArray[np.int64]
    conversion: NDArray[np.float32]


@lru_cache(maxsize=32)
def tables(n_max: int, size: int) -> Tables:
    """Tables of the kernel for patches of `size` pixels, n_max ≤ KERNEL_N_MAX."""
    inside = disk(size)
    width = -(-size // LANES) * LANES
    masks = np.zeros((size, width), np.uint32)
    masks[:, :size][inside] = 0xFFFFFFFF
    touched = masks.reshape(size, -1, LANES).any(axis=2)
    first = touched.argmax(axis=0)

    values = legendre.legvander(np.linspace(-1, 1, size) / REACH, n_max)
    upper = values[: (size + 1) // 2].copy()
    if size % 2:
        upper[-1] /= 2  # the middle row is its own mirror image, and the kernel adds it to itself
    order = np.minimum(ORDERS, n_max + 1)
    along_y = np.pad(upper, ((0, 0), (0, 1)))[:, order]
    along_x = np.pad(values, ((0, 0), (0, -(n_max + 1) % LANES)))
    return Tables(
        masks,
        first,
        np.ascontiguousarray(along_y, np.float32),
        np.ascontiguousarray(along_x, np.float32),
        order * (n_max + 1) - order * (order - 1) // 2,
        (_conversion(n_max) / (np.pi * size**2 / 4)).astype(np.float32),
    )


def _conversion(n_max: int) -> NDArray[np.float64]:
    """Coefficients of each Zernike polynomial in products P_j(y / REACH) P_i(x / REACH).

    By Gauss-Legendre quadrature over |x|, |y| ≤ REACH, which is exact: the polynomials are of degree `n_max`.
    """
    nodes, weights = legendre.leggauss(n_max + 1)
    x, y = np.meshgrid(REACH * nodes, REACH * nodes)
    analysis = legendre.legvander(nodes, n_max) * weights[:, None] * (np.arange(n_max + 1) + 0.5)
    coefficients = np.einsum("kyx,yj,xi->jik", polynomials(n_max, x, y), analysis, analysis)
    return np.concatenate([coefficients[j, : n_max + 1 - j] for j in range(n_max + 1)])
