"""Moments of the sites of a few frames, or of a pool of odd ones, in; classes out, found without a label."""

from latticewatch.discover._again import Renewed, Searched, averaged_patches, search, taken_up
from latticewatch.discover._births import born, new_class
from latticewatch.discover._build import learn_model
from latticewatch.discover._divide import Halves, divided
from latticewatch.discover._gathered import SiteAverages
from latticewatch.discover._grow import grow_mixture
from latticewatch.discover._odd import warm_oddities
from latticewatch.discover._pool import OddPool, OddTrack
from latticewatch.discover._rounds import discover

__all__ = [
    "Halves",
    "OddPool",
    "OddTrack",
    "Renewed",
    "Searched",
    "SiteAverages",
    "averaged_patches",
    "born",
    "discover",
    "divided",
    "grow_mixture",
    "learn_model",
    "new_class",
    "search",
    "taken_up",
    "warm_oddities",
]
