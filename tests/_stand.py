"""A simulator and the real service over real sockets, with the truth of every frame."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from latticewatch.config import load_settings
from latticewatch.serve import Service
from latticewatch_client import Client
from latticewatch_simulator import Simulation, SimulatorSettings

PATIENCE_S = 120.0
FREE = "tcp://127.0.0.1:0"


class Stand:
    """Everything that an example needs, and what really was in each frame."""

    def __init__(self, simulation, data_dir, material):
        self.simulation, self.data_dir, self.material = simulation, data_dir, material
        self.control = simulation.control_endpoint
        # Of each frame: number, middle of the field, and the defects (id, species, distance from the middle in nm).
        self.frames, self.service = {}, None
        self.url = ""
        self.thread = threading.Thread(target=simulation.run, args=(self._note,), daemon=True)

    def _note(self, frame):
        truth = frame.truth
        at = np.flatnonzero(truth.is_defect())
        middle = (np.array(truth.shape) - 1) / 2
        pixel = self.simulation.microscope.settings.pixel_size_nm
        away = np.hypot(*(truth.positions_px()[at] - middle).T) * pixel
        self.frames[truth.series_id, truth.number] = [
            (int(i), truth.names[s], float(d))
            for i, s, d in zip(truth.id[at], truth.species[at], away, strict=True)
        ]

    def serve(self, http="127.0.0.1:0"):
        settings = load_settings(
            None,
            ingest={"sources": (self.simulation.endpoint,)},
            analysis={"material": self.material} if self.material else {},
            serve={"http": http},
            record={"data_dir": self.data_dir},
        )
        self.service = Service(settings)
        self.service.start()
        self.url = self.service.url

    def nearest(self, series_id, number):
        """The defect nearest to the middle in a frame."""
        return min(self.frames[series_id, number], key=lambda one: one[2])

    def wait_live(self, defects=1):
        deadline = time.monotonic() + PATIENCE_S
        with Client(self.url) as client:
            while client.status().phase != "live" or client.targets().n < defects:
                assert time.monotonic() < deadline, client.status()
                time.sleep(0.1)


@contextmanager
def standing(data_dir: Path, material: str | None = None, **settings) -> Iterator[Stand]:
    base = {"shape": (384, 384), "fps": 5, "births_per_frame": 0, "pixel_size_nm": 0.02, "settle_s": 0.1}
    checked = SimulatorSettings.checked(**(base | settings))
    with Simulation(checked, bind=FREE, control=FREE) as simulation:
        stand = Stand(simulation, data_dir, material)
        stand.serve()
        try:
            stand.thread.start()
            yield stand
        finally:
            stand.service.stop()
            simulation.request_stop()
            stand.thread.join(20)


def example(name: str):
    path = Path(__file__).parents[1] / "docs/tutorial/loops" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main
