"""What rotating or mirroring a patch does to its Zernike moments, and what it leaves alone.

A rotation mixes the cosine and the sine of each order m with each other and with nothing else, so it acts
on the moments exactly; no pixel is interpolated. Where the lattice gives the orientation (several grains, a
rotated scan), turning the moments back is better than invariants: nothing is lost, and noise stays
Gaussian.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def rotate_moments(
    moments: ArrayLike, n: ArrayLike, m: ArrayLike, angle_deg: ArrayLike
) -> NDArray[np.floating]:
    """Moments of the patches after a rotation, counter-clockwise as displayed (row 0 at the top).

    Parameters
    ----------
    moments : array-like of shape (..., n_orders)
        Zernike moments; float32 stays float32.
    n, m : array-like of shape (n_orders,)
        Orders of the columns (`ZernikeMoments.n_`, ``m_``), sorted by (n, m).
    angle_deg : array-like, broadcast against the shape of `moments` without its last axis
        Angle [degrees]; 90 gives the moments of ``np.rot90(patch)``.

    Returns
    -------
    ndarray of shape (..., n_orders)
    """
    moments, m = _checked(moments, n, m)
    phase = np.deg2rad(np.asarray(angle_deg, np.float64))[..., None] * np.abs(m)
    # θ grows clockwise on the display (y points down), so f(θ) becomes f(θ + angle).
    rotated = np.cos(phase) * moments + np.sign(m) * np.sin(phase) * moments[..., _partner(m)]
    return rotated.astype(moments.dtype)


def mirror_moments(
    moments: ArrayLike, n: ArrayLike, m: ArrayLike, axis_deg: ArrayLike = 0.0
) -> NDArray[np.floating]:
    """Moments of the patches after a reflection in a line through their centre.

    Parameters
    ----------
    moments, n, m
        As for `rotate_moments`.
    axis_deg : array-like, broadcast against the shape of `moments` without its last axis
        Direction of the line, counter-clockwise from the x axis as displayed [degrees]: 0 gives the moments
        of ``np.flipud(patch)``, 90 those of ``np.fliplr(patch)``.

    Returns
    -------
    ndarray of shape (..., n_orders)
    """
    moments, m = _checked(moments, n, m)
    mirrored = np.where(m < 0, -moments, moments)
    return rotate_moments(mirrored, n, m, 2.0 * np.asarray(axis_deg, np.float64))


def invariants(moments: ArrayLike, n: ArrayLike, m: ArrayLike) -> NDArray[np.floating]:
    """Features that neither a rotation nor a reflection of the patch changes.

    With the complex moments z_nm = A_nm + i A_n,-m, the columns are, in this order (81 for n ≤ 10):

    1. A_n0, which are invariant as they are (6);
    2. |z_nm| for m > 0 (30);
    3. Re(z_nm z*_(n+2)m) / √(|z_nm|² + |z_(n+2)m|²): how the radial orders of one m are turned against each
       other (20);
    4. Re(z_a z_b z*_(a+b)) / (|z_a|² + |z_b|² + |z_(a+b)|²) with z_a = z_aa, a ≤ b: how different m are
       turned against each other (25).

    Parameters
    ----------
    moments, n, m
        As for `rotate_moments`.

    Returns
    -------
    ndarray of shape (..., n_features)
        Named by `invariant_names`.

    Notes
    -----
    Magnitudes alone (the usual choice) cannot tell a three-fold ring turned against a six-fold one, say a
    chalcogen sublattice from its mirror image inside the metal's; 3 and 4 hold these relative orientations.
    All columns are of the first degree in intensity, continuous, and bounded by the largest moment they
    contain, so they share the scale of the moments. They are not linear: where a moment vanishes by
    symmetry, its magnitude is of the order of the noise and not Gaussian.
    """
    moments, m = _checked(moments, n, m)
    n = np.asarray(n)
    first, second, a, b, c = _relations(n, m)
    zero, cosine = np.flatnonzero(m == 0), np.flatnonzero(m > 0)
    z = np.zeros(moments.shape, np.complex128)
    z[..., cosine] = moments[..., cosine] + 1j * moments[..., _partner(m)[cosine]]
    power = z.real**2 + z.imag**2
    within = _ratio(
        (z[..., first] * z[..., second].conj()).real, np.sqrt(power[..., first] + power[..., second])
    )
    triple = (z[..., a] * z[..., b] * z[..., c].conj()).real
    between = _ratio(triple, power[..., a] + power[..., b] + power[..., c])
    parts = [moments[..., zero], np.sqrt(power[..., cosine]), within, between]
    return np.concatenate(parts, axis=-1).astype(moments.dtype)


def invariant_names(n: ArrayLike, m: ArrayLike) -> list[str]:
    """Names of the columns of `invariants`.

    Parameters
    ----------
    n, m : array-like of shape (n_moments,), int
        Radial and azimuthal orders of the moments.

    Returns
    -------
    list of str
        In the order of the columns.
    """
    n, m = np.asarray(n), np.asarray(m)
    first, second, a, b, _ = _relations(n, m)
    return [
        *(f"zernike_{n[k]}_0" for k in np.flatnonzero(m == 0)),
        *(f"magnitude_{n[k]}_{m[k]}" for k in np.flatnonzero(m > 0)),
        *(f"phase_{n[k]}_{n[q]}_m{m[k]}" for k, q in zip(first, second, strict=True)),
        *(f"phase_m{m[k]}_m{m[q]}_m{m[k] + m[q]}" for k, q in zip(a, b, strict=True)),
    ]


def _relations(n: NDArray[np.int64], m: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Columns paired within one m, and columns of the triples a, b, a + b."""
    column = {(int(i), int(j)): k for k, (i, j) in enumerate(zip(n, m, strict=True))}
    pairs = [(k, column[i + 2, j]) for (i, j), k in column.items() if j > 0 and (i + 2, j) in column]
    lowest = [j for j in range(1, int(n.max()) + 1) if (j, j) in column]
    triples = [
        (column[i, i], column[j, j], column[i + j, i + j])
        for i in lowest
        for j in lowest
        if i <= j and (i + j, i + j) in column
    ]
    within = np.array(pairs, np.int64).reshape(-1, 2).T
    between = np.array(triples, np.int64).reshape(-1, 3).T
    return *within, *between


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient, and its limit 0 where there is nothing to compare."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _partner(m: NDArray[np.int64]) -> NDArray[np.int64]:
    """Column of (n, -m) for each column (n, m): m runs in steps of 2, so it lies m columns back."""
    return np.arange(len(m)) - m


def _checked(
    moments: ArrayLike, n: ArrayLike, m: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    moments, n, m = np.asarray(moments), np.asarray(n), np.asarray(m)
    if not np.issubdtype(moments.dtype, np.floating):
        moments = moments.astype(np.float64)
    if n.shape != m.shape or n.ndim != 1 or moments.shape[-1:] != n.shape:
        raise ValueError(
            f"moments of shape {moments.shape} do not match orders n of shape {n.shape} and m of shape "
            f"{m.shape}; give n_ and m_ of the estimator that made them"
        )
    place = (n * (n + 2) + m) // 2
    if not np.array_equal(place, np.arange(len(n))):
        raise ValueError("the orders are not complete and sorted by (n, m); give n_ and m_ of the estimator")
    return moments, m
