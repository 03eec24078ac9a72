"""Frames in; how long each part of the service takes on this machine, beside what it replaces, out."""

from latticewatch.bench._frames import measure_frames
from latticewatch.bench._live import measure_latency, measure_sustained
from latticewatch.bench._machine import Machine, this_machine
from latticewatch.bench._results import Benchmark, FrameTimes, Latency, Spread, Stage, Sustained, ZernikeTimes
from latticewatch.bench._script import Script, find_script
from latticewatch.bench._zernike import measure_zernike

__all__ = [
    "Benchmark",
    "FrameTimes",
    "Latency",
    "Machine",
    "Script",
    "Spread",
    "Stage",
    "Sustained",
    "ZernikeTimes",
    "find_script",
    "measure_frames",
    "measure_latency",
    "measure_sustained",
    "measure_zernike",
    "this_machine",
]
