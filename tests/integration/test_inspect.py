"""``latticewatch inspect``: what is in a file, what would be taken, and whether its calibration can be right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from latticewatch.cli import main
from latticewatch_simulator import Microscope, SimulatorSettings

PIXEL_NM = 0.02


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    settings = SimulatorSettings.checked(shape=(320, 300), pixel_size_nm=PIXEL_NM, dose_e_per_a2=1e5, seed=3)
    return Microscope(settings).acquire().image


def inspected(path: Path, capsys: pytest.CaptureFixture, *options: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(path), *options])
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


def test_the_lattice_is_told_with_the_known_ones_that_it_may_be(image, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", image=image, pixel_size_nm=PIXEL_NM)
    said = inspected(tmp_path / "a.npz", capsys)
    assert "1 x 320 x 300, 0.02 nm/px" in said
    assert "0.315" in said
    assert "WS2" in said
    assert "pixel size" not in said.lower()


def test_a_pixel_size_that_fits_no_known_lattice_is_told(image, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", image=image, pixel_size_nm=10 * PIXEL_NM)
    assert "too large" in inspected(tmp_path / "a.npz", capsys)
    report = json.loads(inspected(tmp_path / "a.npz", capsys, "--json"))
    assert report["taken"]["lattices_like_it"] == []
    assert any("too large" in note for note in report["taken"]["notes"])
