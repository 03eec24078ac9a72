"""Layouts of the same whitened moments in the plane, and how well each separates the species."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score, silhouette_samples
from threadpoolctl import threadpool_limits

from latticewatch.config import AnalysisSettings
from latticewatch.discover._build import LAYOUT_COMPONENTS, LAYOUT_SITES, SUBLATTICES_APART
from latticewatch.estimators import ForceRelaxedLayout, IncrementalPCA
from latticewatch.ingest import Frame
from latticewatch.model import Model
from latticewatch.pipeline import Classified, analyse

NEIGHBOURS = 15
MIN_CLUSTER = 5
# A true column within this share of the nearest-neighbour distance of a site is at it.
MATCHED = 0.35


def components_of(
    model: Model, frame: Frame, truth: dict[str, NDArray[Any]], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Whitened components of a sample of sites, as the service lays them out, and what is really there.

    Returns
    -------
    components : ndarray of shape (n, n_components), float64
        All defects and neighbours of defects, and hosts up to `LAYOUT_SITES` in all.
    species : ndarray of shape (n,), int64
        True species, the two sublattices of one host apart.
    clear : ndarray of shape (n,), bool
        Defects, and host columns without a defect in their patch: those whose class is not a matter of definition.
    found : ndarray of shape (n,), int64
        Class that the service gave.
    """
    analysis = analyse(frame, model, AnalysisSettings(learning_frames=1))
    if not isinstance(analysis, Classified):
        raise ValueError("the frame shows no lattice; there is nothing to lay out")
    patches, verdict = analysis.patches, analysis.verdict
    position = truth["positions_px"]
    names = truth["species"].astype(str)
    tree = KDTree(position)
    spacing = float(np.median(np.asarray(tree.query(position, k=2)[0])[:, 1]))
    distance, at = (np.asarray(found) for found in tree.query(patches.position))
    species = np.char.add(names[at], patches.sublattice.astype(str))
    defect = ~np.isin(names, truth["host"].astype(str))
    beside = np.array(
        [defect[near].any() for near in tree.query_ball_point(patches.position, model.patch_px / 2)]
    )
    usable = np.flatnonzero((distance < MATCHED * spacing) & truth["inside"][at])
    rng = np.random.default_rng(seed)
    changed, plain = usable[beside[usable]], usable[~beside[usable]]
    plain = rng.permutation(plain)[: max(LAYOUT_SITES - len(changed), LAYOUT_SITES // 2)]
    chosen = np.sort(np.concatenate([changed, plain]))
    components = np.zeros((len(chosen), LAYOUT_COMPONENTS + 1))
    for s, known in enumerate(model.sublattices):
        rows = np.flatnonzero(patches.sublattice[chosen] == s)
        if len(rows) < 2:
            continue
        whitened = (patches.moments[chosen[rows]] - known.filter.mean) @ known.whitening
        kept = IncrementalPCA(n_components="noise", noise_variance=1.0).fit_transform(whitened)
        kept = kept[:, :LAYOUT_COMPONENTS]
        components[rows, : kept.shape[1]] = kept
        components[rows, -1] = SUBLATTICES_APART * s
    found = model.class_ids[verdict.posterior.argmax(1)][chosen]
    codes = np.unique(species[chosen], return_inverse=True)[1]
    clear = defect[at[chosen]] | ~beside[chosen]
    return components, codes, clear, found.astype(np.int64)


def compare_layouts(
    model: Model, frame: Frame, truth: dict[str, NDArray[Any]], seed: int
) -> Iterator[dict[str, Any]]:
    """Silhouette of the true species in each layout, and ARI of clusters found in it without knowing them.

    The silhouette is the mean over sites, nine in ten of which are hosts, and the mean over species of their means.

    HDBSCAN (at least five sites a cluster, what it leaves out counted as one cluster) is told nothing, k-means the true
    number of species. All sites are laid out and clustered; those whose class is clear are scored.

    Parameters
    ----------
    model : Model
    frame : Frame
        One that the model was learnt from.
    truth : dict
        A file of ``data/truth``.
    seed : int
    """
    components, species, clear, found = components_of(model, frame, truth, seed)
    makers: dict[str, Callable[[NDArray[np.float64]], NDArray[Any]]] = {
        "none: the components": lambda x: x,
        "force-relaxed": ForceRelaxedLayout(n_neighbors=NEIGHBOURS, seed=seed).fit_transform,
        "t-SNE": TSNE(random_state=seed).fit_transform,
    }
    if importlib.util.find_spec("umap") is not None:
        from umap import UMAP

        makers["UMAP"] = UMAP(n_neighbors=NEIGHBOURS, random_state=seed, n_jobs=1).fit_transform
    n_species = len(np.unique(species[clear]))
    for name, make in makers.items():
        start = time.perf_counter()
        # threads that wait for one another by spinning are slow beside other work
        with threadpool_limits(limits=1):
            layout = np.asarray(make(components), np.float64)
        seconds = time.perf_counter() - start
        density = HDBSCAN(min_cluster_size=MIN_CLUSTER, copy=True).fit_predict(layout)  # type: ignore[arg-type]
        means = KMeans(n_species, random_state=seed).fit_predict(layout)
        silhouette = np.asarray(silhouette_samples(layout[clear], species[clear]))
        yield {
            "layout": name,
            "sites": int(clear.sum()),
            "silhouette": float(silhouette.mean()),
            "silhouette_of_species": float(
                np.mean([silhouette[species[clear] == one].mean() for one in np.unique(species[clear])])
            ),
            "ari_hdbscan": float(adjusted_rand_score(species[clear], density[clear])),
            "ari_kmeans": float(adjusted_rand_score(species[clear], means[clear])),
            "seconds": seconds,
        }
    yield {
        "layout": "the service's classes",
        "sites": int(clear.sum()),
        "silhouette": None,
        "silhouette_of_species": None,
        "ari_hdbscan": float(adjusted_rand_score(species[clear], found[clear])),
        "ari_kmeans": None,
        "seconds": None,
    }
