"""What the classifier works with, as the HTTP interface gives it."""

from __future__ import annotations

from pydantic import Field

from latticewatch.messages._base import Written
from latticewatch.messages._events import ReadRole


class SublatticeSpace(Written):
    """How much the plain hosts of one sublattice differ among themselves, in units of those that were learnt from."""

    sublattice: int
    rows: float = Field(description="Hosts that this comes from; those of old frames have faded.")
    variances: list[float] = Field(description="Along the principal axes, largest first [sigma²].")
    edge: float | None = Field(
        description="What noise alone reaches by chance [sigma²]; absent if not known."
    )
    n_components: int = Field(description="Axes above the edge: what hosts have beside noise.")
    since: list[int] = Field(description="Of each of these, the frame that showed it first.")


class ClassSpace(Written):
    """Where a class is in the space of its sublattice."""

    class_id: int
    name: str
    role: ReadRole
    sublattice: int
    prior: float = Field(description="Share of the sublattice's sites that the classifier expects.")
    total: int = Field(description="Sites seen in this class since the model was learnt.")
    separation: float | None = Field(
        description="Distance from the host along the one number that decides on the height [sigma]."
    )
    rows: float = Field(description="Sites that the centroid is the mean of; those of old frames have faded.")
    since: int = Field(description="Frame that showed the class first.")
    distance: float = Field(description="Distance of the centroid from that of the host learnt from [sigma].")
    drift: float = Field(description="How far it has moved since it settled, beyond chance [sigma].")


class ModelState(Written):
    """What the classifier works with, now."""

    as_of_seq: int
    model_version: int
    frame: int | None = Field(description="Newest frame that this has seen.")
    sublattices: list[SublatticeSpace]
    classes: list[ClassSpace]


class LoadedClass(Written):
    """A class of a model that was loaded."""

    class_id: int
    class_id_in_file: int = Field(description="Another number where that one had been given here already.")
    name: str
    role: ReadRole


class LoadedModel(Written):
    """Reply of ``PUT /v1/model/file``: the model that is in force now."""

    as_of_seq: int
    model_version: int
    classes: list[LoadedClass]


class EmbeddingState(Written):
    """Sites in the plane: a pool of them laid out by forces, and those of the newest frame placed among it."""

    as_of_seq: int
    model_version: int
    layout: int = Field(description="Number of the layout; while it is the same, the pool stands still.")
    frame: int = Field(description="The frame of the sites.")
    pool: list[tuple[float, float]]
    pool_class: list[int]
    sites: list[tuple[float, float] | None] = Field(
        description="Each site of the frame, in the order of its sites; null where it has no place."
    )
    site_class: list[int] = Field(description="-1 is no class.")
