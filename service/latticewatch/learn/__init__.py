"""Moments of the sites of a few frames in; a model out, which classifies the sites of every later frame."""

import importlib
from typing import TYPE_CHECKING

from latticewatch.learn._build import Survey, learn_model
from latticewatch.learn._catalogue import CatalogueEntry, average_patch
from latticewatch.learn._discovery import Patches, discover, gather_patches
from latticewatch.learn._mixture import Mixture, grow_mixture
from latticewatch.learn._model import Model, Verdict, columns_of
from latticewatch.learn._novelty import new_class
from latticewatch.learn._oddities import warm_oddities

if TYPE_CHECKING:
    from latticewatch.learn._centroid import NearestCentroid
    from latticewatch.learn._layout import ForceRelaxedLayout
    from latticewatch.learn._pca import IncrementalPCA
    from latticewatch.learn._whitening import NoiseWhitening

__all__ = [
    "CatalogueEntry",
    "ForceRelaxedLayout",
    "IncrementalPCA",
    "Mixture",
    "Model",
    "NearestCentroid",
    "NoiseWhitening",
    "Patches",
    "Survey",
    "Verdict",
    "average_patch",
    "columns_of",
    "discover",
    "gather_patches",
    "grow_mixture",
    "learn_model",
    "new_class",
    "warm_oddities",
]

# They bring scikit-learn, which takes a second to import: frames are analysed without it, classes discovered with it.
ESTIMATORS = {
    "ForceRelaxedLayout": "_layout",
    "IncrementalPCA": "_pca",
    "NearestCentroid": "_centroid",
    "NoiseWhitening": "_whitening",
}


def __getattr__(name: str) -> object:
    if name in ESTIMATORS:
        return getattr(importlib.import_module(f"{__name__}.{ESTIMATORS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
