"""One frame, analysed: the part that needs no memory of other frames and runs in any thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latticewatch.config import AnalysisSettings
from latticewatch.errors import NoLatticeError
from latticewatch.features import ZernikeDisk
from latticewatch.ingest import Frame
from latticewatch.lattice import (
    DARK_COLUMNS,
    Flattened,
    Lattice,
    PhaseField,
    Sites,
    Thickness,
    are_shifted,
    boundary,
    columns_in_view,
    continued,
    domain_notes,
    find_cores,
    find_lattice,
    find_peaks,
    flatten,
    follow_lattice,
    grain_sites,
    inverted,
    lit,
    may_vary,
    measure_thickness,
    mend,
    settled,
    steadied,
    touched,
    void_places,
    void_sites,
)
from latticewatch.messages import Note
from latticewatch.model import Model, Patches, Survey, Verdict, gather_patches
from latticewatch.parallel import Once, run, working
from latticewatch.pipeline._analysis import Analysis, Classified, Surveyed
from latticewatch.pipeline._notes import contaminated, no_lattice, partly_covered
from latticewatch.pipeline._picture import counts_and_picture
from latticewatch.pipeline._pulled import changed, in_step, is_pulled, without_light
from latticewatch.pipeline._regions import find_regions, region_note, without_regions
from latticewatch.pipeline._withheld import Line, without_lines

# Diameter of the patches in nearest-neighbour distances: the linear discriminant of their moments is that of the ideal
# observer, while larger patches bring more neighbours than signal.
PATCH_NEIGHBOUR_DISTANCES = 2.3
# Changes of height up to so many times those of a step are put down to it.
STEP_REACH = 1.1
# Changes of height up to this share, at least, are put down to the boundary or the core of a dislocation beside.
LEAST_REACH = 0.25
# Share of what pulls the lattice that is left when its light, as it was measured where it was pulled, is taken off.
PULL_LEFT = 0.2
SMALLEST_PATCH_PX = 7
LARGEST_PATCH_PX = 255


class _Clock:
    """Wall time of the stages, one after another; a stage that comes again adds to what it took before."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._of, self._last = "", time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + 1e3 * (now - self._last)
        self._of, self._last = stage, now

    def part(self, stage: str, ms: float) -> None:
        """So much of the last lap was another stage."""
        self.laps[self._of] = max(self.laps[self._of] - ms, 0.0)
        self.laps[stage] = self.laps.get(stage, 0.0) + ms


def analyse(
    frame: Frame,
    model: Model | None,
    settings: AnalysisSettings,
    hint: NDArray[np.float64] | None = None,
) -> Analysis:
    """Find and classify the sites of a frame.

    Parameters
    ----------
    frame : Frame
    model : Model or None
        None while learning: the lattice is looked for from nothing, and nothing is classified.
    settings : AnalysisSettings
    hint : ndarray of shape (2, 2), float64, optional
        Without a model: reciprocal vectors of a lattice that several frames show together, as in `find_lattice`.

    Returns
    -------
    Analysis

    Notes
    -----
    Safe in any thread. Cores that no other frame keeps busy help with this one.
    """
    with working():
        return _analyse(frame, model, settings, hint)


def _analyse(
    frame: Frame, model: Model | None, settings: AnalysisSettings, hint: NDArray[np.float64] | None
) -> Analysis:
    work = _Work.begun(frame)
    try:
        if model is None:
            return _surveyed(work, settings, hint)
        return _classified(work, model)
    except NoLatticeError as error:
        work.notes.append(no_lattice(str(error)))
        sites = find_peaks(work.image)
        work.clock.lap("peaks")
        return Surveyed(**work.seen(None), model=model, lattice=None, sites=sites)


def flat_image(analysis: Classified) -> NDArray[np.float32]:
    """A frame without its background, host columns near 1.

    Parameters
    ----------
    analysis : Classified
        Made here, or by a worker elsewhere, which keeps most of the bytes: few frames are asked for their image,
        and it is made again for those.

    Returns
    -------
    ndarray of shape (height, width), float32
        The same bits either way.
    """
    image = analysis.survey.flat.image
    if image.size:
        return image
    with working():
        return _classified(_Work.begun(analysis.frame), analysis.model).survey.flat.image


@dataclass(slots=True)
class _Work:
    """A frame while it is analysed: each step may change what the next one sees of it."""

    frame: Frame
    picture: NDArray[np.uint8]
    image: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    notes: list[Note]
    lines: list[Line]
    clock: _Clock

    @classmethod
    def begun(cls, frame: Frame) -> _Work:
        """Counts and picture of a frame, and what of it is specimen."""
        clock = _Clock()
        image, picture = counts_and_picture(frame.image)
        clock.lap("picture")
        gaps = ~np.isfinite(frame.image) if frame.image.dtype.kind == "f" else None
        specimen = mend(image, gaps)
        clock.lap("mending")
        return cls(frame, picture, specimen.image, specimen.mask, list(specimen.notes), [], clock)

    def invert(self) -> None:
        """Show dark columns as bright ones."""
        self.image = inverted(self.image)
        self.notes.append(DARK_COLUMNS)

    def level(self, lattice: Lattice, where: PhaseField) -> bool:
        """Show a lattice whose height varies as if it did not; whether it does."""
        # beats of two lattices are no thickness
        thickness = None if lattice.overlaid else _thickness(self.image, lattice, where, self.mask)
        if thickness is None:
            return False
        self.image = thickness.levelled(self.image)
        self.notes += thickness.notes()
        self.lines += _steps(thickness, self.image.shape)
        return True

    def look_beside(self, lattice: Lattice, where: PhaseField) -> None:
        """Find the lines beside which columns look changed."""
        self.notes += [*lattice.notes, *lattice.doubts]
        if lattice.overlaid:
            # columns that lie over others look changed everywhere
            self.lines.append(Line(np.ones(self.image.shape, bool), everywhere=True))
            return
        self.lines += [*_domains(lattice, where, self.image.shape), *_cores(where, self.image.shape)]

    def mask_more(self, region: NDArray[np.bool_] | None) -> None:
        """Take one more region for no specimen."""
        if region is not None:
            self.mask = region if self.mask is None else self.mask | region

    def seen(self, where: PhaseField | None) -> dict[str, Any]:
        """What every frame gives."""
        notes = [*self.notes, *(note for line in self.lines for note in line.notes)]
        notes += partly_covered(where, self.mask)
        return {
            "frame": self.frame,
            "image": self.image,
            "picture": self.picture,
            "notes": tuple(notes),
            "timings_ms": self.clock.laps,
            "mask": self.mask,
            "lines": tuple(self.lines),
        }


def _surveyed(work: _Work, settings: AnalysisSettings, hint: NDArray[np.float64] | None) -> Surveyed:
    """A frame whose lattice is looked for from nothing."""
    lattice = find_lattice(work.image, hint)
    dark = lattice.dark
    if dark:
        work.invert()
    if work.level(lattice, lattice.field):
        # where columns differ in height from place to place, a line says nothing of all of its columns
        lattice = replace(find_lattice(work.image, hint), dark=dark, unsteady=False)
    work.look_beside(lattice, lattice.field)
    size = patch_size(lattice, settings)
    sites = grain_sites(lattice.field, lattice.columns, work.image.shape, size / 2)  # type: ignore[arg-type]
    sites = _on_specimen(sites, (work.mask,), size)
    _check_fit(sites, size, work.image.shape)
    work.clock.lap("lattice")
    return Surveyed(**work.seen(lattice.field), model=None, lattice=lattice, sites=sites)


def _classified(work: _Work, model: Model) -> Classified:
    """A frame in which the lattice of a model is followed, and its sites classified."""
    if model.lattice.dark:
        work.invert()
    where = follow_lattice(work.image, model.lattice)
    if work.level(model.lattice, where):
        where = follow_lattice(work.image, model.lattice)
    work.look_beside(model.lattice, where)
    work.clock.lap("lattice")
    survey, patches, verdict = _judged(work, model, where)
    for share in (1.0, PULL_LEFT):
        height = changed(verdict, survey.sites, model)
        if is_pulled(share * height, survey.sites, model):
            # dirt, or another phase, is not what its odd sites say, and its light is none to take off
            for region in find_regions(verdict, patches, model, work.lines, work.mask):
                height[region.rows] = 0.0
        if not is_pulled(share * height, survey.sites, model):
            break
        alone = without_light(work.image, height * survey.flat.scale, survey.sites.position, model.lattice)
        # the background is that of the whole frame
        alone_there = in_step(follow_lattice(alone, model.lattice), model.lattice)
        where = replace(alone_there, means=where.means)
        work.clock.lap("lattice")
        survey, patches, verdict = _judged(work, model, where)
    if survey.flat.dirt is not None:
        work.notes.append(contaminated(survey.flat.dirt))
        work.mask_more(survey.flat.dirt)
    regions = find_regions(verdict, patches, model, work.lines, work.mask)
    verdict = without_regions(verdict, patches, model, regions, work.lines)
    work.notes += region_note(regions, len(survey.sites))
    work.clock.lap("classes")
    return Classified(
        **work.seen(where),
        model=model,
        phase_field=where,
        survey=survey,
        patches=patches,
        verdict=verdict,
        odd_regions=regions,
    )


def _judged(work: _Work, model: Model, where: PhaseField) -> tuple[Survey, Patches, Verdict]:
    """Sites of a frame, where its lattice is followed, and what a model says of them."""
    survey = survey_frame(
        work.image,
        model.lattice,
        where,
        ZernikeDisk(model.n_max, model.patch_px),
        work.clock,
        voids="lit" if _knows_places(model) else "none",
        mask=work.mask,
    )
    _check_fit(survey.sites, model.patch_px, work.image.shape)
    sites = survey.sites
    patches = gather_patches(
        [(survey.moments, sites.position, sites.sublattice, sites.cell)],
        tuple(known.templates for known in model.sublattices),
        work.image.shape,  # type: ignore[arg-type]
    )
    verdict = without_lines(model.classify(patches), patches, model, work.lines)
    work.clock.lap("classes")
    return without_empty(survey, patches, verdict, model)


def _cores(where: PhaseField, shape: tuple[int, ...]) -> list[Line]:
    """Dislocations of every grain."""
    found = [find_cores(grain, shape) for grain in where.grains if grain is not None]
    return [
        Line(cores.mask, -LEAST_REACH, LEAST_REACH, own_spread=True, notes=(cores.note(),))
        for cores in found
        if cores is not None
    ]


def _domains(lattice: Lattice, where: PhaseField, shape: tuple[int, ...]) -> list[Line]:
    """The boundary between the domains of a lattice."""
    mask = boundary(where.grains, shape) if lattice.angles else None
    if mask is None:
        return []
    notes = tuple(domain_notes(mask, shifted=are_shifted(lattice.angles)))
    return [Line(mask, -LEAST_REACH, LEAST_REACH, own_spread=True, notes=notes)]


def _steps(thickness: Thickness, shape: tuple[int, ...]) -> list[Line]:
    """Steps in thickness, and the changes of height that one makes of a column that is taken for the other side's."""
    mask = thickness.beside_step(shape)
    if mask is None:
        return []
    # what is as high as the step, and noise
    reach = STEP_REACH * thickness.step_ratio
    return [Line(mask, 1 / reach - 1, reach - 1, counted=True)]


def _thickness(
    image: NDArray[np.float32], lattice: Lattice, where: PhaseField, mask: NDArray[np.bool_] | None
) -> Thickness | None:
    """Height of the lattice over a frame; None where it hardly varies, or where there are several grains."""
    if lattice.others or not may_vary(where):
        return None
    return measure_thickness(image, where, lattice.cell, mask)


def _knows_places(model: Model) -> bool:
    """Whether a model has all places between the columns; one that was kept long ago may have some only."""
    places = sum(len(void_places(grain)) for grain in model.lattice.grains)
    return 0 < model.n_voids == places and all(len(known.templates.heights) for known in model.sublattices)


def without_empty(
    survey: Survey, patches: Patches, verdict: Verdict, model: Model
) -> tuple[Survey, Patches, Verdict]:
    """What stands between the columns where it is, and no places where nothing does."""
    sites = survey.sites
    void = sites.sublattice >= model.n_columns
    if not void.any():
        return survey, patches, verdict
    some = np.flatnonzero(~void | (verdict.component != 0))
    # most frames have nothing there, and the columns come first: then nothing is copied
    kept = slice(0, len(some)) if len(some) and some[-1] == len(some) - 1 else some
    position = sites.position.copy()
    position[void] += verdict.shift[void]
    moved = Sites(position, sites.sublattice, sites.cell).take(kept)
    # what is nowhere else is where it was found to be
    seen = replace(patches, position=position).take(kept)
    return replace(survey, sites=moved, moments=survey.moments[kept]), seen, verdict.take(kept)


def survey_frame(
    image: NDArray[np.float32],
    lattice: Lattice,
    where: PhaseField,
    zernike: ZernikeDisk,
    clock: _Clock | None = None,
    *,
    measure_noise: bool = False,
    voids: Literal["none", "lit", "all"] = "lit",
    mask: NDArray[np.bool_] | None = None,
) -> Survey:
    """Sites and moments of a frame in which a known lattice was found.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    lattice : Lattice
        Its columns are those of the sites.
    where : PhaseField
        Where it lies in this very frame.
    zernike : ZernikeDisk
    clock : optional
        Takes the time of the stages.
    measure_noise : bool, optional
        Whether the pixel noise is wanted, as it is for learning.
    voids : {"none", "lit", "all"}, optional
        Places between the columns that are wanted: all of them for learning, later those that are lit.
    mask : ndarray of shape (height, width), bool, optional
        What is no specimen: sites whose patch reaches into it, or into contamination, are left out.
    """
    clock = clock or _Clock()
    margin = zernike.patch_size / 2
    shape = image.shape[0], image.shape[1]
    columns = Once(lambda: _columns(where, lattice, shape, margin))

    def flattened() -> Flattened:
        return flatten(
            image,
            where,
            lattice.cell,
            noise=measure_noise,
            others=[other.cell for other in lattice.others],
            means=where.means,
            steadied=(lambda flat: steadied(flat, columns(), lattice)) if lattice.unsteady else None,
        )

    def places() -> Sites:
        columns()
        return Sites.none() if voids == "none" else void_sites(where, lattice, shape, margin)

    # an idle core takes one of two calls: where columns are, and places between them, does not wait for the background
    flat, between = run(flattened, places)
    clock.lap("background")
    if lattice.angles:
        columns = Once(lambda: settled(flat.image, where, lattice))
    sites = columns()
    if lattice.angles or lattice.unsteady:
        sites = sites.take(_inside(sites.position, shape, margin))
    sites = _on_specimen(sites, (mask, flat.dirt), zernike.patch_size)
    between, (moments, ms) = run(
        lambda: _on_specimen(
            between.take(lit(flat.image, between, lattice.profile.narrow)) if voids == "lit" else between,
            (mask, flat.dirt),
            zernike.patch_size,
        ),
        lambda: _described(flat.image, sites, zernike),
    )
    start = time.perf_counter()
    if len(between):
        sites = sites.joined(between)
        moments = np.concatenate([moments, zernike.at(flat.image, between.position)])
    if lattice.angles and len(sites):
        for rows, alone in continued(flat.image, where, lattice, columns(), sites, margin):
            moments[rows] = zernike.at(alone, sites.position[rows])
    clock.lap("sites")
    clock.part("moments", ms + 1e3 * (time.perf_counter() - start))
    return Survey(flat, sites, moments)


def _described(
    image: NDArray[np.float32], sites: Sites, zernike: ZernikeDisk
) -> tuple[NDArray[np.float32], float]:
    """Moments of the patches around some sites, and how many ms they took."""
    start = time.perf_counter()
    moments = zernike.at(image, sites.position)
    return moments, 1e3 * (time.perf_counter() - start)


def _columns(where: PhaseField, lattice: Lattice, shape: tuple[int, int], margin: float) -> Sites:
    """Columns of a frame; where its lines are looked at, up to its edges."""
    if lattice.unsteady:
        return columns_in_view(where, lattice, shape)
    # those of domains are where the flat frame shows them
    return Sites.none() if lattice.angles else grain_sites(where, lattice.columns, shape, margin)


def _inside(position: NDArray[np.float64], shape: tuple[int, ...], margin: float) -> NDArray[np.bool_]:
    """Places at least so far from the edges of a frame [px]."""
    last = np.array(shape) - 1 - margin
    return np.asarray(((position >= margin) & (position <= last)).all(1), bool)


def _on_specimen(sites: Sites, masks: Sequence[NDArray[np.bool_] | None], patch_px: int) -> Sites:
    """Sites whose patches lie on the specimen, none of the masks in them."""
    for mask in masks:
        if mask is not None and len(sites):
            sites = sites.take(~touched(sites.position, mask, patch_px / 2))
    return sites


def _check_fit(sites: Sites, patch_px: int, shape: tuple[int, ...]) -> None:
    if not len(sites):
        rows, cols = shape
        raise NoLatticeError(
            f"no patch of {patch_px} px lies within {rows} x {cols} px; no lattice found; give a smaller patch size"
        )


def patch_size(lattice: Lattice, settings: AnalysisSettings) -> int:
    """Side of the patches [px]: as set, or from the lattice, odd so that a pixel is at the centre."""
    if settings.patch_size != "auto":
        return settings.patch_size
    size = round(PATCH_NEIGHBOUR_DISTANCES * lattice.nearest_neighbour_px) | 1
    return min(max(size, SMALLEST_PATCH_PX), LARGEST_PATCH_PX)
