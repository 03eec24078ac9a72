"""A small honest lattice for the figures: two sublattices, every class with sites, every site where its column is."""

from __future__ import annotations

import numpy as np

from latticewatch.pipeline import ROLES, CatalogueEntry, FrameResult, SiteTable

HOSTS = ("A host", "B host")


def patch(size, height, side=0.0):
    """Average patch of a column of some height, beside one that is brighter by ``side``."""
    axis = (np.arange(size) - size // 2) / size
    y, x = np.meshgrid(axis, axis, indexing="ij")
    column = height * np.exp(-(x**2 + y**2) / 0.02)
    return (column + (0.4 + side) * np.exp(-((x - 0.42) ** 2 + y**2) / 0.02)).astype(np.float32)


def catalogue(n_defects=4, n_neighbours=2, names=None, patch_px=24):
    """Two hosts, then defect classes of falling height, then neighbour classes."""
    hosts = [patch(patch_px, 1.0), patch(patch_px, 0.4, side=0.6)]
    entries = [CatalogueEntry(k, HOSTS[k], "host", k, None, 1000, 0.9, None, hosts[k]) for k in (0, 1)]
    for k in range(n_defects):
        sublattice = k % 2
        height = (1 - 0.6 * sublattice) * (1 - (k + 1) / (n_defects + 1))
        name = (
            names[k]
            if names and k < len(names)
            else f"{'AB'[sublattice]} −{100 * (k + 1) // (n_defects + 1)} %"
        )
        entries.append(
            CatalogueEntry(
                2 + k, name, "defect", sublattice, sublattice, 12, 0.01, 4.0 + k, patch(patch_px, height)
            )
        )
    for k in range(n_neighbours):
        sublattice = k % 2
        entries.append(
            CatalogueEntry(
                2 + n_defects + k,
                f"{'AB'[sublattice]} beside {entries[2 + k % max(n_defects, 1)].name} {'→↗↑↖←↙↓↘'[k % 8]}",
                "neighbour",
                sublattice,
                sublattice,
                36,
                0.02,
                2.5,
                patch(patch_px, 1 - 0.6 * sublattice, side=0.6 * sublattice - 0.2),
            )
        )
    return tuple(entries)


def frame(
    rng,
    shape=(256, 256),
    constant_px=16.0,
    classes=None,
    pixel_size_nm=0.02,
    number=0,
    odd_share=0.06,
    lattice_found=True,
):
    """An image of a hexagonal lattice with defects drawn at their sites, and the result that describes it.

    Returns
    -------
    tuple of ndarray of shape (height, width) and FrameResult
    """
    classes = catalogue() if classes is None else classes
    vectors = constant_px * np.array([[0.0, 1.0], [np.sqrt(0.75), 0.5]])
    span = int(2 * max(shape) / constant_px) + 2
    cells = np.stack(np.meshgrid(np.arange(-span, span), np.arange(-span, span), indexing="ij"), -1).reshape(
        -1, 2
    )
    position = np.concatenate([cells @ vectors, (cells + 1 / 3) @ vectors])
    sublattice = np.repeat([0, 1], len(cells))
    inside = ((position > 0) & (position < np.array(shape) - 1)).all(1)
    position, sublattice = position[inside], sublattice[inside]
    n = len(position)

    class_id = sublattice.copy()
    others = [entry for entry in classes if entry.role != "host"]
    odd = np.flatnonzero(rng.random(n) < odd_share)
    for s in (0, 1):
        # every class in turn, so that none is without sites
        own = [-1, *(entry.class_id for entry in others if entry.sublattice == s)]
        members = odd[sublattice[odd] == s]
        class_id[members] = np.resize(own, len(members))
    if not classes:
        class_id[:] = -1
    height = np.where(sublattice == 0, 1.0, 0.4)
    for entry in others:
        height[class_id == entry.class_id] = entry.average[len(entry.average) // 2, len(entry.average) // 2]
    image = rng.normal(0.1, 0.03, shape)
    rows, cols = np.indices(shape)
    reach = int(constant_px)
    for (r, c), peak in zip(position, height, strict=True):
        part = np.s_[max(int(r) - reach, 0) : int(r) + reach, max(int(c) - reach, 0) : int(c) + reach]
        image[part] += peak * np.exp(
            -((rows[part] - r) ** 2 + (cols[part] - c) ** 2) / (2 * (0.17 * constant_px) ** 2)
        )
    image = np.clip(200 * image, 0, None).astype(np.uint16)

    role_of = {entry.class_id: ROLES.index(entry.role) for entry in classes}
    sites = SiteTable(
        position.astype(np.float32),
        sublattice.astype(np.int16) if lattice_found else np.full(n, -1, np.int16),
        class_id.astype(np.int16),
        np.array([role_of.get(int(k), 3) for k in class_id], np.uint8),
        np.full(n, 0.97, np.float32),
        np.arange(n, dtype=np.int32),
    )
    ids = np.concatenate([np.repeat(np.arange(len(classes)), 60), [-1, -1]]) if classes else np.zeros(0, int)
    angle = 2.4 * ids
    layout = np.stack([np.sqrt(ids + 2) * np.cos(angle), np.sqrt(ids + 2) * np.sin(angle)], -1)
    result = FrameResult(
        series_id="series-1",
        number=number,
        ordinal=number,
        shape=shape,
        t_received=0.0,
        t_acquired=None,
        pixel_size_nm=pixel_size_nm,
        stage_nm=None,
        picture=np.zeros(shape, np.uint8),
        sites=sites,
        lattice_found=lattice_found,
        lattice_constant_px=constant_px if lattice_found else None,
        drift_px=(0.0, 0.0),
        model_version=1,
        learning=(1, 1),
        classes=classes,
        embedding=(layout + rng.normal(0, 0.18, layout.shape)).astype(np.float32),
        embedding_class=ids.astype(np.int16),
    )
    return image, result
