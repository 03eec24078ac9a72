"""Classified, tracked frames in, one after another; counts, rates, distances and lifetimes over time out, bounded."""

from latticewatch.statistics._history import FrameRecord, Happening, History, HistoryView
from latticewatch.statistics._lifetimes import Lifetimes, Survival, survival
from latticewatch.statistics._pairs import PairDistances, nearest_distances, pair_distances
from latticewatch.statistics._rates import EventRate, event_rate, poisson_interval
from latticewatch.statistics._series import BinnedSeries, Bins

__all__ = [
    "BinnedSeries",
    "Bins",
    "EventRate",
    "FrameRecord",
    "Happening",
    "History",
    "HistoryView",
    "Lifetimes",
    "PairDistances",
    "Survival",
    "event_rate",
    "nearest_distances",
    "pair_distances",
    "poisson_interval",
    "survival",
]
