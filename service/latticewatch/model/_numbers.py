"""The same model with other numbers for its classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latticewatch.model._model import Model
from latticewatch.model._sublattice import SublatticeModel


def renumbered(model: Model, first: int) -> Model:
    """Number the classes anew, in their order.

    Parameters
    ----------
    model : Model
    first : int
        Number of the first class; the others follow.

    Returns
    -------
    Model
        Of the same version. Classes that a person merged into others get numbers of their own, behind the rest.
    """
    mentioned = {entry.class_id for entry in model.classes}
    others = {*model.alias, *model.alias.values()}
    for known in model.sublattices:
        others.update(known.class_ids.tolist(), known.odd_ids.tolist(), known.shifts.class_ids.tolist())
        others.update([known.shifts.loose_id, *known.neighbour_class.values()])
        others.update(defect for _, defect in known.neighbour_class)
        for part in known.parts:
            others.update([part.class_id, *part.sources])
    ids = [*sorted(mentioned), *sorted(others - mentioned)]
    new = {old: first + k for k, old in enumerate(i for i in ids if i >= 0)}

    def of(old: int) -> int:
        return new.get(int(old), int(old))

    def all_of(old: NDArray[np.int16]) -> NDArray[np.int16]:
        return np.array([of(i) for i in old.tolist()], np.int16)

    def sublattice(known: SublatticeModel) -> SublatticeModel:
        shifts = known.shifts
        return replace(
            known,
            class_ids=all_of(known.class_ids),
            odd_ids=all_of(known.odd_ids),
            shifts=replace(shifts, class_ids=all_of(shifts.class_ids), loose_id=of(shifts.loose_id)),
            neighbour_class={(way, of(d)): of(c) for (way, d), c in known.neighbour_class.items()},
            parts=tuple(
                replace(part, class_id=of(part.class_id), sources=tuple(of(k) for k in part.sources))
                for part in known.parts
            ),
        )

    return replace(
        model,
        sublattices=tuple(sublattice(known) for known in model.sublattices),
        classes=tuple(
            replace(
                entry,
                class_id=of(entry.class_id),
                host_class=None if entry.host_class is None else of(entry.host_class),
            )
            for entry in model.classes
        ),
        alias={of(old): of(into) for old, into in model.alias.items()},
        embedding_class=all_of(model.embedding_class),
    )
