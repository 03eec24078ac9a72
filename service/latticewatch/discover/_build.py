"""From the frames gathered while learning to a model: classes found, numbered, named, given roles and averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latticewatch.discover._averages import AveragedSites, average_sites
from latticewatch.discover._beside import with_neighbours
from latticewatch.discover._resampling import resampling_slopes
from latticewatch.discover._rounds import (
    HOST_SHARE,
    Discovery,
    discover,
    displacement_filters,
    in_single_frames,
    sublattice_models,
    visible_neighbours,
)
from latticewatch.features import ZernikeDisk
from latticewatch.lattice import Lattice
from latticewatch.messages import Role
from latticewatch.model import (
    PATCHES_AVERAGED,
    CatalogueEntry,
    Model,
    Patches,
    ShiftKinds,
    SublatticeModel,
    SublatticeTemplates,
    Survey,
    Verdict,
    average_patch,
    defect_name,
    displaced_name,
    gather_patches,
    host_name,
    least_disturbed,
    letter,
    neighbour_name,
    off_lattice_name,
    sublattice_templates,
    unique,
)

# Sites in the picture of the force-relaxed layout: all that are not host, and hosts up to this many.
LAYOUT_SITES = 1500
LAYOUT_COMPONENTS = 8
SUBLATTICES_APART = 25.0
# Fewer places between the columns than this do not tell what an empty one looks like.
MIN_PLACES = 50


def learn_model(
    surveys: Sequence[Survey],
    lattice: Lattice,
    zernike: ZernikeDisk,
    *,
    invariant: bool = False,
    material: str | None = None,
    pixel_size_nm: float | None = None,
    version: int = 1,
    first_class: int = 0,
    seed: int = 0,
) -> Model:
    """Learn the classes of a few frames.

    Parameters
    ----------
    surveys : sequence of Survey
        Frames of one specimen, all surveyed with the columns of the same lattice.
    lattice : Lattice
        Of the first frame.
    zernike : ZernikeDisk
    invariant : bool, optional
        Orientations and mirror images of a motif are one class.
    material : str, optional
        Formula or columns, for the names of simulated classes; see `latticewatch.elements.parse_material`.
    pixel_size_nm : float, optional
        For names that say how far columns are displaced.
    version, first_class : int, optional
        Version of the model, and number of its first class.
    seed : int, optional
        For the sample of patches that are averaged and laid out.

    Returns
    -------
    Model
    """
    rng = np.random.default_rng(seed)
    flat = surveys[0].flat
    templates = sublattice_templates(lattice, flat.scale, flat.noise, zernike)
    surveys, templates = _with_places(surveys, templates)
    templates = _with_resampling(templates, surveys)
    patches = gather_patches(
        [(s.moments, s.sites.position, s.sites.sublattice, s.sites.cell) for s in surveys],
        templates,
        flat.image.shape,  # type: ignore[arg-type]
    )
    orders = np.stack([zernike.n_, zernike.m_])
    averages, averaged, quiet = average_sites(patches, templates), None, templates
    if averages is None:
        found = discover(patches, templates, orders)
    else:
        quiet = tuple(replace(t, noise=t.noise / averages.n_frames) for t in templates)
        averaged = discover(averages.patches, quiet, orders)
        found = in_single_frames(averaged, averages.site, patches, templates)
    times_seen = 1 if averages is None else averages.n_frames
    sublattices = sublattice_models(found, patches, templates, seed, times_seen)
    numbered, drafts = _number(sublattices, patches, first_class, invariant, pixel_size_nm)
    model = Model(
        version,
        lattice,
        zernike.patch_size,
        zernike.n_max,
        flat.scale,
        numbered,
        drafts,
        invariant=invariant,
        material=material,
    )
    verdict = model.classify(patches)
    if averages is not None and averaged is not None:
        verdict = _with_averages(verdict, model, averaged, averages, quiet)
    model = replace(model, classes=with_neighbours(model, verdict.posterior.argmax(1), patches))
    model = replace(model, classes=_described(model, verdict, surveys, patches, rng))
    embedding, members = _laid_out(model, patches, verdict, rng)
    return replace(model, embedding=embedding, embedding_class=members)


def _with_places(
    surveys: Sequence[Survey], templates: tuple[SublatticeTemplates, ...]
) -> tuple[Sequence[Survey], tuple[SublatticeTemplates, ...]]:
    """Frames and templates, without the places between the columns where there are too few to know an empty one."""
    n_columns = sum(not known.void for known in templates)
    number = sum(
        np.bincount(survey.sites.sublattice, minlength=len(templates))[n_columns:] for survey in surveys
    )
    if n_columns == len(templates) or np.min(number) >= MIN_PLACES:
        return surveys, templates
    out = []
    for survey in surveys:
        kept = np.flatnonzero(survey.sites.sublattice < n_columns)
        out.append(replace(survey, sites=survey.sites.take(kept), moments=survey.moments[kept]))
    return out, tuple(known.without_voids() for known in templates[:n_columns])


def _with_resampling(
    templates: tuple[SublatticeTemplates, ...], surveys: Sequence[Survey]
) -> tuple[SublatticeTemplates, ...]:
    """The templates, with what the frames tell of resampling."""
    moments, position, sublattice = (
        np.concatenate(parts)
        for parts in zip(*((s.moments, s.sites.position, s.sites.sublattice) for s in surveys), strict=True)
    )
    return tuple(
        replace(known, resampling=resampling_slopes(moments[sublattice == s], position[sublattice == s]))
        for s, known in enumerate(templates)
    )


def _with_averages(
    verdict: Verdict,
    model: Model,
    averaged: Discovery,
    averages: AveragedSites,
    templates: tuple[SublatticeTemplates, ...],
) -> Verdict:
    """A verdict on single frames, with that on the averages wherever there is one."""
    of_averages = tuple(
        replace(
            known,
            filter=one.filter,
            whitening=one.whitening,
            mixture=one.mixture,
            displacement=displacement,
            gate=gate,
        )
        for known, one, (displacement, gate) in zip(
            model.sublattices,
            averaged.sublattices,
            displacement_filters(averaged, averages.patches, templates),
            strict=True,
        )
    )
    of_site = replace(model, sublattices=of_averages).classify(averages.patches)
    rows = np.flatnonzero(averages.site >= 0)
    return verdict.with_rows(rows, of_site.take(averages.site[rows].astype(np.intp)))


def _number(
    found: tuple[SublatticeModel, ...],
    patches: Patches,
    first_class: int,
    invariant: bool,
    pixel_size_nm: float | None = None,
) -> tuple[tuple[SublatticeModel, ...], tuple[CatalogueEntry, ...]]:
    """Give every class its number, name and role: hosts first, then defects, then neighbours."""
    blank = np.zeros((0, 0), np.float32)
    entries: list[CatalogueEntry] = []
    taken: set[str] = set()
    ids = [np.full(len(m.mixture.mean), -1, np.int16) for m in found]

    def add(name: str, role: Role, s: int, host: int | None, separation: float | None, prior: float) -> int:
        number = first_class + len(entries)
        entries.append(
            CatalogueEntry(number, unique(name, taken), role, s, host, 0, prior, separation, blank)
        )
        return number

    # grains of one crystal share their classes; with orientations set aside, equivalent sublattices of one grain do too
    twin = {
        s: model.group
        for s, model in enumerate(found)
        if model.group != s
        and (invariant or model.templates.void or found[model.group].templates.grain != model.templates.grain)
    }
    for s, model in enumerate(found):
        if s in twin:
            continue
        if model.templates.void:
            # nothing has no class of its own: it stands for the host of the grain
            grain = model.templates.grain
            first = next(t for t, m in enumerate(found) if m.templates.grain == grain)
            ids[s][0] = ids[twin.get(first, first)][0]
            continue
        ids[s][0] = add(f"{letter(s)} host", "host", s, None, None, float(model.mixture.weight[0]))
    for s, model in enumerate(found):
        if s in twin:
            continue
        mixture = model.mixture
        for k in range(1, len(mixture.mean)):
            distance = mixture.mean[k] - mixture.mean[0]
            change = distance * model.filter.height_of_sigma / model.templates.height
            common = mixture.weight[k] >= HOST_SHARE
            name = host_name(s, change) if common else defect_name(s, change)
            if model.templates.void:
                common, name = False, off_lattice_name(change, model.templates.around)
            ids[s][k] = add(
                name,
                "host" if common else "defect",
                s,
                int(ids[s][0]),
                abs(float(distance)),
                float(mixture.weight[k]),
            )
    for s, first in twin.items():
        ids[s] = ids[first].copy()
    models = [
        replace(m, class_ids=i, neighbour_class={}, odd_ids=-2 - m.odd_ids)
        for m, i in zip(found, ids, strict=True)
    ]
    verdict = _components(models, patches)
    for s, model in enumerate(models):
        host = int(ids[s][0])
        name = f"{letter(twin.get(s, s))} odd"
        odd = [add(name, "defect", s, host, None, 0.0) for _ in range(model.oddities.n_classes)]
        models[s] = replace(
            model,
            odd_ids=np.array(odd, np.int16),
            shifts=_numbered_shifts(model, s, add, host, pixel_size_nm, invariant=invariant),
        )
    names = {entry.class_id: entry.name for entry in entries}
    grouped: dict[tuple[int, int], int] = {}
    for s, direction, other, component in visible_neighbours(found, patches, verdict):
        defect = int(ids[other][component])
        kind = twin.get(s, s), defect
        if invariant and kind in grouped:
            models[s].neighbour_class[direction, defect] = grouped[kind]
            continue
        offset = None if invariant else found[s].templates.offset[direction]
        number = add(
            neighbour_name(twin.get(s, s), names[defect], offset), "neighbour", s, int(ids[s][0]), None, 0.0
        )
        models[s].neighbour_class[direction, defect] = grouped[kind] = number
    return tuple(models), tuple(entries)


def _numbered_shifts(
    model: SublatticeModel,
    s: int,
    add: Callable[..., int],
    host: int,
    pixel_size_nm: float | None,
    *,
    invariant: bool,
) -> ShiftKinds:
    """The kinds of displacement of a sublattice, with their classes."""
    kinds = model.shifts
    ids: list[int] = []
    for k in range(len(kinds)):
        if invariant and ids:
            ids.append(ids[0])
            continue
        separation = float(np.hypot(*model.displacement.of(kinds.centroid[k : k + 1])[0]))
        name = displaced_name(s, kinds.centroid[k], pixel_size_nm, directed=not invariant)
        ids.append(add(name, "defect", s, host, separation, float(kinds.weight[k])))
    return replace(kinds, class_ids=np.array(ids, np.int16))


def _components(models: Sequence[SublatticeModel], patches: Patches) -> NDArray[np.int16]:
    """Component of each site's mixture, 0 host, -1 none, from a model that has only its mixtures."""
    blank = np.zeros((0, 0), np.float32)
    classes = tuple(
        CatalogueEntry(int(i), str(i), "host", s, None, 0, 0.0, None, blank)
        for s, m in enumerate(models)
        for i in (*m.class_ids, *m.odd_ids)
    )
    # the lattice plays no part in classification
    return Model(0, None, 0, 0, 1.0, tuple(models), classes).classify(patches).component  # type: ignore[arg-type]


def _described(
    model: Model, verdict: Verdict, surveys: Sequence[Survey], patches: Patches, rng: np.random.Generator
) -> tuple[CatalogueEntry, ...]:
    """Average patch, number, prior and separation of every class."""
    best = verdict.posterior.argmax(1)
    void = np.array([known.templates.void for known in model.sublattices])[patches.sublattice]
    empty = void & (verdict.component == 0)
    counts = np.bincount(best[~empty], minlength=len(model.classes) + 1)
    defect = np.array([entry.role == "defect" for entry in model.classes] + [True])[best]
    host_of = np.array([known.class_ids[0] for known in model.sublattices])[patches.sublattice]
    host_of[void] = -1
    out = []
    for k, entry in enumerate(model.classes):
        members = (best == k) & ~empty
        # sublattices that share a class may see it in other orientations
        same = members & (patches.sublattice == entry.sublattice)
        averaged = least_disturbed(np.flatnonzero(same if same.any() else members), defect, patches.index)
        weight, counted, patch = 0, 0, np.zeros((model.patch_px, model.patch_px))
        for number, survey in enumerate(surveys):
            here = averaged[patches.frame[averaged] == number]
            if len(here):
                patch += len(here) * average_patch(
                    survey.flat.image, patches.position[here], model.patch_px, rng
                )
                weight += len(here)
                counted += min(len(here), PATCHES_AVERAGED)
        sites = max(int((host_of == model.sublattices[entry.sublattice].class_ids[0]).sum()), 1)
        separation = entry.separation
        if entry.role == "neighbour" and members.any() and entry.host_class is not None:
            host = best == next(j for j, e in enumerate(model.classes) if e.class_id == entry.host_class)
            host &= patches.sublattice == entry.sublattice
            # where only few cells are seen, all hosts may be neighbours
            if host.any():
                shift = patches.moments[averaged].mean(0) - patches.moments[host].mean(0)
                separation = float(np.linalg.norm(shift @ model.sublattices[entry.sublattice].whitening))
        out.append(
            replace(
                entry,
                total=int(counts[k]),
                # That which its posteriors are made with: what frames say beyond it is counted in each of them, and a
                # class that no site was given, at a prior of nothing, would be believed in everywhere soon.
                prior=entry.prior if entry.role == "defect" and entry.prior else float(counts[k]) / sites,
                separation=separation,
                average=(patch / max(weight, 1)).astype(np.float32),
                averaged=counted,
            )
        )
    return tuple(out)


def _laid_out(
    model: Model, patches: Patches, verdict: Verdict, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Force-relaxed layout of the whitened components of the sites: the published picture of the classes."""
    from latticewatch.estimators import ForceRelaxedLayout, IncrementalPCA

    ids = model.class_ids[verdict.posterior.argmax(1)]
    hosts = {entry.class_id for entry in model.classes if entry.role == "host"}
    is_host = np.isin(ids, list(hosts))
    void = np.array([known.templates.void for known in model.sublattices])[patches.sublattice]
    empty = void & (verdict.component == 0)
    rare, common = np.flatnonzero(~is_host & ~empty), np.flatnonzero(is_host & ~empty)
    rare = rng.permutation(rare)[: LAYOUT_SITES // 2]
    common = rng.permutation(common)[: LAYOUT_SITES - len(rare)]
    chosen = np.sort(np.concatenate([rare, common]))
    if len(chosen) < 8:
        return np.zeros((0, 2), np.float32), np.zeros(0, np.int16)
    components = np.zeros((len(chosen), LAYOUT_COMPONENTS + 1))
    for s, known in enumerate(model.sublattices):
        rows = patches.sublattice[chosen] == s
        if not rows.any():
            continue
        whitened = (patches.moments[chosen[rows]] - known.filter.mean) @ known.whitening
        pca = IncrementalPCA(n_components="noise", noise_variance=1.0).fit(whitened)
        kept = pca.transform(whitened)[:, :LAYOUT_COMPONENTS]
        components[rows, : kept.shape[1]] = kept
        # each sublattice has its own whitening, and its own place in the picture
        components[rows, -1] = SUBLATTICES_APART * s
    layout = ForceRelaxedLayout(n_neighbors=min(15, len(chosen) - 1), seed=int(rng.integers(2**31)))
    return layout.fit_transform(components).astype(np.float32), ids[chosen]
