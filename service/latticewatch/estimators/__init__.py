"""Rows of numbers in; whitening, components, classes and a layout out: scikit-learn estimators that know no frames."""

import importlib
from typing import TYPE_CHECKING

from latticewatch.estimators._covariance import RunningCovariance, noise_edge
from latticewatch.estimators._posteriors import posteriors
from latticewatch.estimators._table import ClassTable

if TYPE_CHECKING:
    from latticewatch.estimators._centroid import NearestCentroid
    from latticewatch.estimators._layout import ForceRelaxedLayout
    from latticewatch.estimators._pca import IncrementalPCA
    from latticewatch.estimators._steady import SteadyLayout
    from latticewatch.estimators._whitening import NoiseWhitening

__all__ = [
    "ClassTable",
    "ForceRelaxedLayout",
    "IncrementalPCA",
    "NearestCentroid",
    "NoiseWhitening",
    "RunningCovariance",
    "SteadyLayout",
    "noise_edge",
    "posteriors",
]

# They bring scikit-learn, which takes a second to import: frames are analysed without it, classes discovered with it.
LATER = {
    "ForceRelaxedLayout": "_layout",
    "IncrementalPCA": "_pca",
    "NearestCentroid": "_centroid",
    "NoiseWhitening": "_whitening",
    "SteadyLayout": "_steady",
}


def __getattr__(name: str) -> object:
    if name in LATER:
        return getattr(importlib.import_module(f"{__name__}.{LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
