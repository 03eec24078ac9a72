"""``latticewatch simulate --specimen`` through ``latticewatch analyse``: what the truth file says is what is found."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zmq
from scipy.spatial import KDTree

from latticewatch.cli import main
from latticewatch_simulator import read_truth

TIMEOUT_MS = 120_000
SIZE, PIXEL_NM = 320, 0.02


def taken(folder: Path, *options: str) -> np.ndarray:
    """A frame of the command's stream; its truth is written into the folder."""
    command = [
        *(sys.executable, "-m", "latticewatch", "simulate", "--push", "--frames", "1"),
        *("--bind", "tcp://127.0.0.1:0", "--control", "none", "--size", str(SIZE)),
        *("--pixel-size", str(PIXEL_NM), "--truth", str(folder / "truth.jsonl"), "--drift", "0,0", *options),
    ]
    context = zmq.Context()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
        try:
            assert simulator.stdout is not None
            socket = context.socket(zmq.PULL)
            socket.rcvtimeo = TIMEOUT_MS
            socket.connect(simulator.stdout.readline().partition(" on ")[2].split()[0])
            while True:
                parts = socket.recv_multipart()
                header = json.loads(parts[0])
                if len(parts) == 2:
                    break
        finally:
            context.destroy(linger=0)
            simulator.terminate()
    return np.frombuffer(parts[1], header["type"]).reshape(SIZE, SIZE)


@pytest.mark.parametrize(
    ("name", "options", "note"),
    [
        ("step", ("--defects", "Se1=0.04"), "step"),
        ("domains", ("--defects", "Se1=0.04"), "domains"),
    ],
)
def test_a_simulated_specimen_is_found_as_its_truth_says(name, options, note, tmp_path: Path):
    frame = taken(tmp_path, "--specimen", name, "--material", "MoSe2", "--rotation", "11", *options)
    np.save(tmp_path / "frame.npy", frame)
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("analyse", str(tmp_path / "frame.npy"), "--out", str(tmp_path / "out")),
                *("--pixel-size", str(PIXEL_NM), "--no-figures"),
            ]
        )
    assert not ended.value.code
    with (tmp_path / "out/sites.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (truth,) = read_truth(tmp_path / "truth.jsonl")
    inside, place = truth.inside(28), truth.positions_px()
    at = np.array([(float(row["row_px"]), float(row["col_px"])) for row in rows])
    said = at[[row["role"] == "defect" for row in rows]]
    near_px = 0.35 * 0.19 / PIXEL_NM
    assert (KDTree(at).query(place[inside])[0] < near_px).mean() > 0.97
    defects = place[truth.is_defect()]
    assert (KDTree(said).query(place[inside & truth.is_defect()])[0] < near_px).mean() >= 0.9
    assert (KDTree(defects).query(said)[0] > near_px).sum() <= 1
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    assert note in {one["code"] for one in summary["notes"]}
