"""The slow, obvious version of every kernel: what the tests compare with."""

from __future__ import annotations

import math

import numpy as np

# --- Zernike moments ---------------------------------------------------------------------------------------


def zernike_polynomial(n, m, x, y):
    """Real Zernike polynomial at one point, zero outside the unit disk."""
    rho, theta = math.sqrt(x * x + y * y), math.atan2(y, x)
    if rho > 1:
        return 0.0
    a = abs(m)
    radial = sum(
        (-1) ** k
        * math.factorial(n - k)
        / (math.factorial(k) * math.factorial((n + a) // 2 - k) * math.factorial((n - a) // 2 - k))
        * rho ** (n - 2 * k)
        for k in range((n - a) // 2 + 1)
    )
    angular = math.sin(a * theta) if m < 0 else math.cos(a * theta)
    return math.sqrt(2 * (n + 1) / (1 + (m == 0))) * radial * angular


def bilinear_patch(image, row, col, size):
    """Patch around a position, the image interpolated between pixels and its edge repeated outside."""
    height, width = image.shape

    def pixel(r, c):
        return float(image[min(max(r, 0), height - 1), min(max(c, 0), width - 1)])

    patch = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            r, c = row - size // 2 + i, col - size // 2 + j
            r0, c0 = math.floor(r), math.floor(c)
            down, right = r - r0, c - c0
            patch[i, j] = (
                (1 - down) * (1 - right) * pixel(r0, c0)
                + (1 - down) * right * pixel(r0, c0 + 1)
                + down * (1 - right) * pixel(r0 + 1, c0)
                + down * right * pixel(r0 + 1, c0 + 1)
            )
    return patch


def zernike_moments_around(image, positions, n_max, size):
    """Moments of the patches around positions, one pixel and one polynomial after the other."""
    grid = np.linspace(-1, 1, size)
    orders = [(n, m) for n in range(n_max + 1) for m in range(-n, n + 1, 2)]
    moments = np.zeros((len(positions), len(orders)))
    for site, (row, col) in enumerate(positions):
        patch = bilinear_patch(image, row, col, size)
        for k, (n, m) in enumerate(orders):
            moments[site, k] = sum(
                patch[i, j] * zernike_polynomial(n, m, grid[j], grid[i])
                for i in range(size)
                for j in range(size)
            ) / (math.pi * size**2 / 4)
    return moments


# --- Learning ----------------------------------------------------------------------------------------------


def weighted_covariance(rows, weights):
    """Mean and covariance, a row of weight 2 counting as two rows."""
    total = sum(weights)
    mean = sum(w * row for w, row in zip(weights, rows, strict=True)) / total
    scatter = sum(w * np.outer(row - mean, row - mean) for w, row in zip(weights, rows, strict=True))
    return mean, scatter / (total - 1)


def layout_force(positions, weights, gravity, softening):
    """Force on each node of a layout: linear attraction along edges, repulsion 1/d between all, gravity."""
    forces = np.zeros((len(positions), 2))
    for i, p in enumerate(positions):
        for j, q in enumerate(positions):
            away = np.subtract(p, q, dtype=float)
            forces[i] -= weights[i][j] * away
            forces[i] += away / (away @ away + softening)
        forces[i] -= gravity * p
    return forces


def nearest_centroid_posterior(row, centroids, priors, contamination, spread):
    """Posterior of each class and of none, from densities of Gaussians written out."""
    d = len(row)

    def density(centroid, sigma):
        distance = math.dist(row, centroid)
        return math.exp(-(distance**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2) ** (d / 2)

    joint = [(1 - contamination) * p * density(c, 1) for c, p in zip(centroids, priors, strict=True)]
    joint.append(contamination * sum(p * density(c, spread) for c, p in zip(centroids, priors, strict=True)))
    return np.array(joint) / sum(joint)


def faded_model(rows, labels, prior_half_life, centroid_half_life):
    """Centroid and faded count of each class, one row after the other."""
    centroids, weights, counts = {}, {}, {}
    for row, label in zip(rows, labels, strict=True):
        counts = {k: count * 0.5 ** (1 / prior_half_life) for k, count in counts.items()}
        counts[label] = counts.get(label, 0.0) + 1
        old = weights.get(label, 0.0) * 0.5 ** (1 / centroid_half_life)
        centroids[label] = (old * centroids.get(label, np.zeros(len(row))) + row) / (old + 1)
        weights[label] = old + 1
    return centroids, counts
