"""Zernike polynomials, and the same as sums of products of a polynomial in x and one in y."""

from __future__ import annotations

from functools import lru_cache
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from latticewatch.features._simd import ORDERS
from latticewatch.vectors import LANES, NARROW_LANES, WIDE_LANES

# Legendre polynomials of x / REACH. Inside the disk, their products cancel least at this value: float32
# sums of a 128 px patch with n_max = 10 are good to 2e-6, against 3e-5 at 1 (and 1e-4 with plain powers).
REACH = 0.8
KERNEL_N_MAX = max(ORDERS)


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
    masks : ndarray of shape (size, width // 8), uint8
        One bit a pixel, set inside the disk; `width` is the size rounded up to whole vectors.
    panels : ndarray of shape (n_panels, 3), int64
        First column, first row in which it touches the disk, and width of each panel of columns. The last
        columns come first: what is written beyond them is overwritten by the others.
    along : ndarray of shape (n_pairs, 11), float32
        Legendre polynomials, in the sequence of `ORDERS`, of the upper row of each pair of rows (y, -y), or
        of the left column of each pair of columns.
    outputs : ndarray of shape (n_triples, 3), int64
        Moments that are made of the same terms; n_orders, behind the last moment, where there is no third.
    terms : ndarray of shape (n_triples, n_terms), int64
        Their separable moments, at 11 j + i for the j-th order of y and i-th of x in `ORDERS`; then -1.
    coefficients : ndarray of shape (n_triples, n_terms, 3), float32
        From these terms to the moments.
    """

    masks: NDArray[np.uint8]
    panels: NDArray[np.int64]
    along: NDArray[np.float32]
    outputs: NDArray[np.int64]
    terms: NDArray[np.int64]
    coefficients: NDArray[np.float32]


@lru_cache(maxsize=32)
def tables(n_max: int, size: int) -> Tables:
    """Tables of the kernel for patches of `size` pixels, n_max ≤ KERNEL_N_MAX."""
    starts, lanes = _panels(size)
    inside = np.zeros((size, int(starts[0] + lanes[0])), np.bool_)
    inside[:, :size] = disk(size)
    first = [inside[:, x : x + width].any(axis=1).argmax() for x, width in zip(starts, lanes, strict=True)]

    upper = legendre.legvander(np.linspace(-1, 1, size)[: (size + 1) // 2] / REACH, n_max)
    if size % 2:
        upper[-1] /= 2  # the middle is its own mirror image, and the kernel adds it to itself
    along = np.pad(upper, ((0, 0), (0, 1)))[:, np.minimum(ORDERS, n_max + 1)]
    return Tables(
        np.packbits(inside, axis=1, bitorder="little"),
        np.column_stack([starts, first, lanes]).astype(np.int64),
        np.ascontiguousarray(along, np.float32),
        *_triples(n_max, size),
    )


def _panels(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First column and width of the panels, from right to left: wide ones, and a narrower one if that will do."""
    starts = np.arange(0, size, WIDE_LANES)
    lanes = np.full(len(starts), WIDE_LANES)
    lanes[-1] = next(n for n in (NARROW_LANES, LANES, WIDE_LANES) if n >= size - starts[-1])
    return starts[::-1], lanes[::-1]


def _triples(n_max: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Outputs, terms and coefficients of `Tables`.

    A moment that is even in y is made of the even orders in y alone, and likewise in x: four symmetries,
    which leave a quarter of the products. One of order n is made of orders up to i + j = n.
    """
    n, m = orders(n_max)
    j, i = np.array([(j, i) for j in range(n_max + 1) for i in range(n_max + 1 - j)]).T
    place = np.argsort(ORDERS)
    conversion = _conversion(n_max) / (np.pi * size**2 / 4)
    outputs, terms, coefficients = [], [], []
    for odd_y in (0, 1):
        for odd_x in (0, 1):
            made = np.flatnonzero(((m < 0) == odd_y) & ((n - odd_y) % 2 == odd_x))
            for three in np.split(made, range(3, len(made), 3)) if len(made) else ():
                of = np.flatnonzero((j % 2 == odd_y) & (i % 2 == odd_x) & (i + j <= n[three].max()))
                gap = (0, 3 - len(three))
                outputs.append(np.pad(three, gap, constant_values=len(n)))
                terms.append(len(ORDERS) * place[j[of]] + place[i[of]])
                coefficients.append(np.pad(conversion[np.ix_(of, three)], ((0, 0), gap)))
    longest = max(map(len, terms))
    return (
        np.array(outputs),
        np.array([np.pad(t, (0, longest - len(t)), constant_values=-1) for t in terms]),
        np.array([np.pad(c, ((0, longest - len(c)), (0, 0))) for c in coefficients], np.float32),
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
