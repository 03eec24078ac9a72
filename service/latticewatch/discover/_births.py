"""Strangers that are alike become a class while the stream goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latticewatch.discover._grow import RELATIVE_SPREAD
from latticewatch.model import MIN_SEPARATION, CatalogueEntry, Model, defect_name, unique

# Strangers within two standard deviations of one place that make a class.
STRANGERS_NEEDED = 8


def new_class(
    model: Model,
    sublattice: int,
    strangers: NDArray[np.float64],
    class_id: int,
    patch: Callable[[float, float, int], NDArray[np.float32]],
) -> Model | None:
    """The next version of a model, with one class more, where enough strangers are alike.

    Parameters
    ----------
    model : Model
    sublattice : int
    strangers : ndarray of shape (n,), float64
        Filter outputs of sites that fitted no class [sigma].
    class_id : int
        Number of the new class.
    patch : callable
        ``patch(low, high, size)`` gives the average patch of sites whose output lies between two limits.

    Returns
    -------
    Model or None
        None where the strangers are too few, or unlike.
    """
    known = model.sublattices[sublattice]
    mixture = known.mixture
    if len(strangers) < STRANGERS_NEEDED:
        return None
    values = np.sort(strangers)
    reach = 2 * np.hypot(mixture.deviation[0], RELATIVE_SPREAD * (values - mixture.mean[0]))
    alike = np.searchsorted(values, values + reach) - np.searchsorted(values, values - reach)
    best = int(np.argmax(alike))
    if alike[best] < STRANGERS_NEEDED:
        return None
    low, high = values[best] - reach[best], values[best] + reach[best]
    members = values[(values >= low) & (values <= high)]
    mean, deviation = float(members.mean()), max(float(members.std()), float(mixture.deviation[0]))
    gaps = np.abs(mean - mixture.mean) / np.maximum(mixture.deviation, deviation)
    if gaps[0] < MIN_SEPARATION or gaps.min() < 2.0:
        return None
    # rare, as the rarest class there is beside the host
    weight = max(float(mixture.weight[1:].min()), 1e-4) if len(mixture.mean) > 1 else 1e-4
    grown = replace(
        mixture,
        mean=np.append(mixture.mean, mean),
        deviation=np.append(mixture.deviation, deviation),
        weight=np.append(mixture.weight * (1 - weight), weight * (1 - mixture.background)),
    )
    distance = mean - mixture.mean[0]
    change = distance * known.filter.height_of_sigma / known.templates.height
    entry = CatalogueEntry(
        class_id,
        unique(defect_name(sublattice, change), {e.name for e in model.classes}),
        "defect",
        sublattice,
        int(known.class_ids[0]),
        len(members),
        weight,
        abs(float(distance)),
        patch(low, high, model.patch_px),
    )
    sublattices = tuple(
        replace(known, mixture=grown, class_ids=np.append(known.class_ids, np.int16(class_id)))
        if s == sublattice
        else other
        for s, other in enumerate(model.sublattices)
    )
    return replace(model, version=model.version + 1, sublattices=sublattices, classes=(*model.classes, entry))
