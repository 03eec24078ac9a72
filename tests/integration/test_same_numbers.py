"""The same frames give the same numbers, as a file to ``analyse`` and as a stream to the service."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zarr", reason="the io extra is not installed")
from _alike import alike
from _running import running
from latticewatch.cli import main
from latticewatch.config import AnalysisSettings
from latticewatch.ingest import Recording
from latticewatch.pipeline import Learner, analyse
from latticewatch_simulator import Microscope, SimulatorSettings

PIXEL_NM, N_FRAMES = 0.02, 9
SETTINGS = AnalysisSettings(learning_frames=5)
# What only a clock, a stage, an address, or the name of the file says.
PASSING = {
    "stage_nm",
    "stage_sigma_nm",
    "address",
    "t_acquired",
    "t_received",
    "t_emitted",
    "series_id",
    "source",
}


def frames() -> np.ndarray:
    settings = SimulatorSettings.checked(
        shape=(320, 300), pixel_size_nm=PIXEL_NM, births_per_frame=1.0, dose_e_per_a2=1e5, seed=11
    )
    microscope = Microscope(settings)
    return np.stack([microscope.acquire().image for _ in range(N_FRAMES)])


def events(told: list[tuple[str, dict]]) -> list[tuple[str, dict]]:
    return [
        (kind, {name: value for name, value in data.items() if name not in PASSING})
        for kind, data in told
        if kind.startswith(("defect.", "class.", "model."))
    ]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recording, list[tuple[str, dict]]]:
    folder = tmp_path_factory.mktemp("both")
    images = frames()
    np.savez(folder / "stack.npz", frames=images, pixel_size_nm=PIXEL_NM)
    with pytest.raises(SystemExit) as ended:
        main(["analyse", str(folder / "stack.npz"), "--out", str(folder / "out"), "--no-figures"])
    assert ended.value.code in (0, None)
    record = {"recording": folder / "rec", "recording_reserve_gib": 0.0}
    with running(folder / "data", learner=Learner(SETTINGS), analyse=analyse, record=record) as live:
        for image in images:
            live.sender.send(image, pixel_size_nm=PIXEL_NM)
        live.sender.end()
        live.analysed(N_FRAMES)

        def recorded() -> bool:
            recording = live.engine.status().recording
            return recording is not None and recording.recorded >= N_FRAMES

        live.until(recorded)
        live.until(lambda: any(e.type == "series.ended" for e in live.engine.log.read(0, 10_000, None)[0]))
        told = [(event.type, dict(event.data)) for event in live.engine.log.read(0, 10_000, None)[0]]
    return folder / "out", Recording(folder / "rec"), told


def test_sites_are_the_same_to_the_last_digit_that_is_written(both):
    out, recording, _ = both
    (part,) = recording.parts
    with (out / "sites.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number in range(N_FRAMES):
        mine = [row for row in rows if int(row["frame"]) == number]
        theirs = part.sites(number)
        assert len(mine) == len(theirs) > 100
        for name, digits in (("row_px", 3), ("col_px", 3), ("confidence", 4)):
            written = np.array([float(row[name]) for row in mine])
            np.testing.assert_allclose(
                written, theirs[name], atol=0.6 * 10.0**-digits, err_msg=f"{name}, {number}"
            )
        for name in ("track", "class_id", "sublattice"):
            assert [int(row[name]) for row in mine] == theirs[name].tolist(), (name, number)


def test_events_are_the_same(both):
    out, _, told = both
    lines = (out / "events.jsonl").read_text(encoding="utf-8").splitlines()
    mine = [(event["type"], event["data"]) for event in map(json.loads, lines)]
    for (kind, one), (other_kind, other) in zip(events(mine), events(told), strict=True):
        assert kind == other_kind
        differ = {k: (one.get(k), other.get(k)) for k in one.keys() | other.keys()}
        differ = {k: pair for k, pair in differ.items() if not alike(*pair, rel_tol=1e-6, abs_tol=1e-9)}
        assert not differ, kind
    assert {"defect.appeared", "class.discovered", "model.updated"} <= {kind for kind, _ in mine}
