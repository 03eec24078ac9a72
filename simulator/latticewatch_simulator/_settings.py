"""Everything that can be set on the simulated microscope and its specimen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latticewatch.errors import ConfigurationError

MaterialName = Literal["WS2", "WSe2", "MoS2", "MoSe2", "graphene", "hBN", "SrTiO3", "SrRuO3", "PbTiO3"]
SpecimenName = Literal[
    "crystal",
    "domains",
    "antiphase",
    "step",
    "wedge",
    "alloy",
    "dislocation",
    "bilayer",
    "dark",
    "weak",
    "displaced",
    "lone",
    "hollow",
    "hot",
    "dirt",
    "border",
    "elliptic",
    "jitter",
    "perovskite",
    "few",
]
PEROVSKITES = ("SrRuO3", "SrTiO3", "PbTiO3")
# How much of it there is, where nothing is said, and between which bounds: docs/reference/simulator-specimens.md.
AMOUNTS: dict[str, tuple[float, float, float]] = {
    "step": (2.0, 0.05, 20.0),
    "wedge": (3.0, 0.05, 20.0),
    "alloy": (0.45, 0.0, 1.0),
    "bilayer": (5.0, -30.0, 30.0),
    "dark": (0.3, 0.01, 0.9),
    "weak": (-5.0, -100.0, 1000.0),
    "displaced": (40.0, 0.0, 150.0),
    "hollow": (0.03, 0.0, 1.0),
    "hot": (20.0, 0.0, 1e5),
    "dirt": (0.18, 0.01, 0.5),
    "border": (0.1, 0.0, 0.5),
    "elliptic": (1.3, 1.0, 3.0),
    "jitter": (0.6, 0.0, 5.0),
    "few": (5.0, 2.0, 100.0),
}
# Of an alloy: the element that takes the place of another, and in which column.
PARTNERS = {
    "WS2": ("Mo", "W"),
    "WSe2": ("Mo", "W"),
    "MoS2": ("W", "Mo"),
    "MoSe2": ("W", "Mo"),
    "SrTiO3": ("Ba", "Sr"),
    "SrRuO3": ("Ca", "Sr"),
    "PbTiO3": ("Sr", "Pb"),
}
# Counts per electron that keep a bright field within 16 bit at the usual doses.
DARK_GAIN = 10.0
# Field of view of one cell where only few are looked at [nm]: that of the widest cell there is, about.
FEW_CELL_NM = 0.33
# Room for the scene that frames are sampled from, drift and stage moves included [px].
MAX_SCENE_PX = 1 << 27


class SimulatorSettings(BaseModel):
    """The specimen, the scan and the detector; frozen, every value bounded.

    Positions are specimen coordinates in nanometres, x along columns and y along rows of the frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    material: MaterialName = Field("WS2", description="Ignored where a structure file is given.")
    structure: Path | None = Field(None, description="Structure file that ASE reads, seen along z.")
    specimen: SpecimenName = Field(
        "crystal",
        description="How the crystal is put together, and what lies on it; 'crystal': in one piece.",
    )
    amount: float | None = Field(
        None, description="How much of that: times as thick, degrees, per cent …; None takes the usual."
    )
    defects: dict[str, float] | None = Field(
        None, description="Fraction of the eligible columns by species; None takes those of the material."
    )
    rotation_deg: float = Field(
        0.0, ge=-360, le=360, description="Turns lattice vector a from +x towards +y."
    )
    origin_nm: tuple[float, float] = Field(
        (0.0, 0.0), description="Where the corner of unit cell 0, 0 lies (x, y)."
    )
    contamination: float = Field(
        0.0, ge=0, le=10, description="Mean of the uneven background, in means of the crystal."
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="Decides the defects and every random number of the scan."
    )

    births_per_frame: float = Field(0.05, ge=0, le=100, description="Mean number of defects born in a frame.")
    birth_species: str | None = Field(
        None, description="Species of a newborn; None takes the simplest vacancy."
    )
    lifetime_frames: float = Field(400.0, ge=1, le=1e9, description="Mean time until a newborn defect heals.")

    dynamics: Literal["births", "beam"] = Field(
        "births", description="Births at a set rate that heal, or what the dose does to each column."
    )
    creation_a2: float = Field(
        2e-9, ge=0, le=1, description="Cross-section of an intact column to lose an atom [A^2]."
    )
    hop_a2: float = Field(
        1e-7, ge=0, le=1, description="Of a vacancy to hop to a neighbouring site of its sublattice."
    )
    healing_a2: float = Field(5e-8, ge=0, le=1, description="Of a vacancy to be filled with what it lost.")
    substitution_a2: float = Field(
        5e-9, ge=0, le=1, description="Of a vacancy to be filled with another element."
    )
    replacement_a2: float = Field(
        0.0, ge=0, le=1, description="Of an intact column to have an atom replaced by that element."
    )
    adatom_hop_a2: float = Field(
        1e-6, ge=0, le=1, description="Of an adatom to hop to a neighbouring hollow."
    )
    attraction: float = Field(
        4.0,
        ge=1,
        le=1e3,
        description="How much likelier vacancies are side by side than apart; 1 is no attraction.",
    )
    substitute: str | None = Field(
        None, description="Species of a filled vacancy, such as C+S; None takes carbon, in carbon nitrogen."
    )

    shape: tuple[int, int] = Field((1024, 1024), description="Rows and columns of a frame, 64 to 8192 each.")
    pixel_size_nm: float = Field(0.012, ge=0.001, le=0.1)
    probe_fwhm_nm: float = Field(
        0.0687, ge=0.03, le=0.5, description="Of the probe with the columns' thermal motion."
    )
    source_sigma_nm: float = Field(0.02, ge=0, le=0.5, description="Blur by the effective source.")
    fps: float = Field(10.0, gt=0, le=1000, description="Frames per second.")
    dwell_us: float | None = Field(
        None, gt=0, description="In the header; None is the frame period over the pixels."
    )
    dose_e_per_a2: float | None = Field(
        None, gt=0, le=1e9, description="Electrons per square angstrom and frame; None takes the material's."
    )
    drift_nm_per_frame: tuple[float, float] = Field(
        (0.003, 0.0015), description="Drift (row, column), 1 nm at most."
    )
    drift_walk_nm: float = Field(
        0.0, ge=0, le=0.2, description="Random walk beside it, rms of a frame's step on either axis."
    )
    settling_fraction: float = Field(
        0.0, ge=-1, le=1, description="Share of a stage move by which the specimen creeps on after it."
    )
    settling_frames: float = Field(
        10.0, gt=0, le=1e6, description="Time in which that creep falls to 1/e, exponentially."
    )
    drift_jumps_nm: dict[int, tuple[float, float]] = Field(
        default_factory=dict,
        description="Jumps (row, column) that no header tells, by the frame they precede.",
    )
    line_jitter_px: float = Field(0.15, ge=0, le=5, description="Along the line; half of it across [px rms].")
    flicker: float = Field(0.02, ge=0, le=0.5, description="Relative variation of the beam current.")
    counts_per_electron: float = Field(40.0, gt=0, le=1e4, description="Detector gain.")
    gain_spread: float = Field(0.35, ge=0, le=2, description="Relative spread of one electron's pulse.")
    read_noise: float = Field(12.0, ge=0, le=1e4, description="Counts rms.")
    offset: float = Field(600.0, ge=0, le=60000, description="Counts in the dark.")

    stage_nm: tuple[float, float] = Field((0.0, 0.0), description="Where the stage starts (x, y).")
    stage_limit_nm: float = Field(
        500.0, gt=0, le=1e5, description="The stage stays within this, on either axis."
    )
    settle_s: float = Field(0.3, ge=0, le=60, description="From the request of a move to its arrival.")
    overshoot: float = Field(
        0.0, ge=0, le=1, description="Share of a move by which the stage overshoots when it arrives."
    )
    overshoot_s: float = Field(
        0.3, gt=0, le=60, description="In which that falls to 1/e, and a swing takes as long."
    )
    stage_tolerance_nm: float = Field(
        0.01, gt=0, le=10, description="Nearer than this the stage has arrived."
    )
    shift_limit_nm: float = Field(50.0, ge=0, le=1e4, description="Largest image shift on either axis.")
    scan_rotation_deg: float = Field(
        0.0, ge=-360, le=360, description="Turns the scan on the specimen, from +x towards +y."
    )
    exposure_limit_s: float = Field(60.0, gt=0, le=3600, description="Longest exposure of one place.")

    @model_validator(mode="before")
    @classmethod
    def _of_specimen(cls, values: Any) -> Any:
        """What a specimen sets, unless it is given: nothing is born, and the scan that shows it."""
        if not isinstance(values, dict) or values.get("specimen", "crystal") == "crystal":
            return values
        name = values["specimen"]
        preset: dict[str, Any] = {"births_per_frame": 0.0}
        amount = values.get("amount")
        if amount is None:
            amount = AMOUNTS.get(name, (0.0,))[0]
        if name == "perovskite" and values.get("structure") is None:
            preset["material"] = PEROVSKITES[0]
        elif name == "dark":
            # where there are no atoms half of the beam is counted
            preset["counts_per_electron"] = DARK_GAIN
        elif name == "jitter":
            preset["line_jitter_px"] = amount
        elif name == "few":
            shape = values.get("shape", cls.model_fields["shape"].default)
            preset["pixel_size_nm"] = FEW_CELL_NM * float(amount) / max(shape)
        return {**preset, **values}

    @property
    def of_specimen(self) -> float:
        """How much of the specimen's peculiarity there is: `amount`, or the usual."""
        return AMOUNTS.get(self.specimen, (0.0,))[0] if self.amount is None else self.amount

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Settings from values, with one readable error.

        Parameters
        ----------
        **values
            Fields of the class.

        Returns
        -------
        SimulatorSettings

        Raises
        ------
        ConfigurationError
            A value out of bounds, named with its limit.
        """
        try:
            settings = cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(
                f"simulator setting {where}: {first['msg']} (got {first['input']!r})"
            ) from error
        settings.check()
        return settings

    def check(self) -> None:
        """What no single field shows.

        Raises
        ------
        ConfigurationError
            A frame, a drift or a stage position beyond what can be simulated.
        """
        self._check_specimen()
        if not all(64 <= n <= 8192 for n in self.shape):
            raise ConfigurationError(
                f"frame of {self.shape[0]} x {self.shape[1]} px: give 64 to 8192 on either side"
            )
        if max(map(abs, self.drift_nm_per_frame)) > 1:
            raise ConfigurationError(f"drift of {self.drift_nm_per_frame} nm per frame: give 1 nm at most")
        if any(max(map(abs, jump)) > self.stage_limit_nm for jump in self.drift_jumps_nm.values()):
            raise ConfigurationError(
                f"drift jumps of {self.drift_jumps_nm} nm: give {self.stage_limit_nm:g} nm at most on either axis"
            )
        if self.scan_rotation_deg and self.contamination:
            raise ConfigurationError(
                "contamination is simulated for a scan that is not turned; give one of the two"
            )
        if max(map(abs, self.stage_nm)) > self.stage_limit_nm:
            raise ConfigurationError(
                f"stage at {self.stage_nm} nm: give a start within plus and minus {self.stage_limit_nm:g} nm"
            )

    def _check_specimen(self) -> None:
        name, amount = self.specimen, self.amount
        if name == "perovskite" and self.structure is None and self.material not in PEROVSKITES:
            raise ConfigurationError(
                f"specimen perovskite of {self.material}: give {' or '.join(PEROVSKITES)}"
            )
        if name == "alloy" and (self.structure is not None or self.material not in PARTNERS):
            raise ConfigurationError(f"specimen alloy: give one of the materials {', '.join(PARTNERS)}")
        if amount is None:
            return
        if name not in AMOUNTS:
            raise ConfigurationError(f"specimen {name} takes no amount; leave it out")
        _, low, high = AMOUNTS[name]
        if not low <= amount <= high:
            raise ConfigurationError(f"amount {amount:g} of specimen {name}: give {low:g} to {high:g}")

    @property
    def fov_nm(self) -> tuple[float, float]:
        """Field of view, height and width."""
        return self.shape[0] * self.pixel_size_nm, self.shape[1] * self.pixel_size_nm

    @property
    def spot_area_a2(self) -> float:
        """Area over which the standing beam spreads: 2 pi sigma^2, so that electrons over it are the dose in its
        middle [A^2].
        """
        sigma = 10 * math.hypot(self.probe_fwhm_nm / 2.3548, self.source_sigma_nm)
        return 2 * math.pi * sigma**2

    def turn(self, x_nm: float, y_nm: float) -> tuple[float, float]:
        """A displacement along the axes of the scan as one of the stage.

        Parameters
        ----------
        x_nm, y_nm : float
            Along the axes of the scan.

        Returns
        -------
        tuple of float
            x, y of the stage [nm].
        """
        cos, sin = self._direction()
        return cos * x_nm - sin * y_nm, sin * x_nm + cos * y_nm

    def turn_back(self, x_nm: float, y_nm: float) -> tuple[float, float]:
        """A displacement of the stage along the axes of the scan; the way back of `turn`.

        Parameters
        ----------
        x_nm, y_nm : float
            Of the stage.

        Returns
        -------
        tuple of float
            x, y along the axes of the scan [nm].
        """
        cos, sin = self._direction()
        return cos * x_nm + sin * y_nm, -sin * x_nm + cos * y_nm

    def _direction(self) -> tuple[float, float]:
        angle = math.radians(self.scan_rotation_deg)
        return math.cos(angle), math.sin(angle)

    @property
    def dwell(self) -> float:
        """Dwell time for the header [us]."""
        return self.dwell_us or 1e6 / (self.fps * self.shape[0] * self.shape[1])
