"""``latticewatch bench`` as a person starts it, and what its numbers promise."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from latticewatch.bench import FrameTimes, Script, Spread, find_script, measure_frames
from latticewatch.cli import main
from latticewatch.cli._bench_frames import frames_of
from latticewatch.errors import NoLatticeError

PATIENCE_S = 170


@pytest.fixture(scope="module")
def finished() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "latticewatch", "bench", "--quick", "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def document(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def is_spread(spread: dict[str, Any]) -> bool:
    return 0 <= spread["p10"] <= spread["median"] <= spread["p90"] and spread["repeats"] >= 3


@pytest.mark.slow
def test_standard_output_is_the_document_and_progress_is_on_standard_error(finished, document) -> None:
    assert document.keys() == {
        "version", "machine", "zernike", "frames", "latency", "sustained", "ratio_4096_to_1024"
    }  # fmt: skip
    assert "frames of 512 x 512 px" in finished.stderr


@pytest.mark.slow
def test_every_way_to_get_moments_has_a_time_and_a_rate(document) -> None:
    names = [times["name"] for times in document["zernike"]]
    assert len(names) == len(set(names)) == 5 + (find_spec("mtflearn") is not None)
    for times in document["zernike"]:
        assert is_spread(times["us_per_patch"])
        assert times["patches_per_s"] == pytest.approx(1e6 / times["us_per_patch"]["median"])


@pytest.mark.slow
def test_the_shares_of_the_stages_add_up_to_one(document) -> None:
    for times in document["frames"]:
        for stages in filter(None, (times["stages"], times["script_stages"])):
            assert sum(stage["share"] for stage in stages) == pytest.approx(1)
            assert all(is_spread(stage["ms"]) for stage in stages)
        assert {"moments", "tracks", "rest"} <= {stage["name"] for stage in times["stages"]}


@pytest.mark.slow
def test_a_frame_has_its_sites_and_is_compared_with_the_script_where_that_is_installed(document) -> None:
    (times,) = document["frames"]
    assert times["shape_px"] == [512, 512]
    assert times["sites"] > 7000
    assert times["frames_per_s"] == pytest.approx(1e3 / times["ms"]["median"])
    if find_spec("mtflearn") is None:
        assert times["script_ms"] is times["ratio"] is None
    else:
        assert times["ratio"] == pytest.approx(times["script_ms"]["median"] / times["ms"]["median"])


@pytest.mark.slow
def test_the_live_path_brings_events_and_pictures_and_accounts_for_its_frames(document) -> None:
    latency = document["latency"]
    assert latency["shape_px"] == [256, 256]
    assert latency["analysed"] > 0
    assert latency["events"] > 0
    assert 0 < latency["event_ms_p50"] <= latency["event_ms_p99"]
    assert 0 < latency["picture_ms_p50"] <= latency["picture_ms_p99"]
    assert latency["analysed"] == pytest.approx(latency["analysed_frames_per_s"] * latency["seconds"])
    assert document["sustained"]["frames_per_s"]["median"] > 0


@pytest.mark.slow
def test_nothing_says_whose_machine_it_is(document) -> None:
    assert document["machine"].keys() == {
        "cores", "architecture", "vectors", "system", "python", "packages"
    }  # fmt: skip


def test_people_get_tables_with_units(capsys: pytest.CaptureFixture[str]) -> None:
    main_without_exit("bench", "--quick", "--no-live", "--sizes", "256", "--seconds", "0.1")
    shown = capsys.readouterr().out
    for part in ("µs/patch", "patches/s", "256 × 256 px", "ms per frame", "frames/s", "share", "moments"):
        assert part in shown
    assert "Live path" not in shown


def main_without_exit(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0


@pytest.mark.parametrize("sizes", ["64", "512,", "9000", "large"])
def test_sizes_that_cannot_be_measured_are_refused_in_one_line(sizes, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--sizes", sizes])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"latticewatch: --sizes {sizes}: expected sides from 256 to 8192 px, such as 512,1024,2048,4096\n"
    )


def test_frames_without_a_lattice_are_refused(rng: np.random.Generator) -> None:
    noise = rng.poisson(100, (3, 256, 256)).astype(np.uint16)
    with pytest.raises(NoLatticeError, match="256 x 256 px show no lattice to learn"):
        measure_frames(noise, 0.012, 0.1)


def test_the_script_finds_the_columns_that_have_peaks() -> None:
    images, _ = frames_of(256, 1, 0)
    script = find_script()
    if script is None:
        pytest.skip("motif-learn is not installed")
    assert isinstance(script, Script)
    spacing_px = 0.182 / 0.012
    image = images[0].astype(np.float32)
    # 23 sites a nm², some of them vacant
    sites = 23.1 * (256 * 0.012) ** 2
    assert 0.9 * sites < len(script.peaks(image, spacing_px)) < 1.2 * sites
    stages = script.learn(image, spacing_px, 35)(image)
    assert list(stages) == ["peaks", "patches", "moments", "PCA", "centroids"]
    assert min(stages.values()) > 0


def test_ratios_are_of_medians_and_missing_where_nothing_was_measured() -> None:
    from latticewatch.bench import Benchmark, ZernikeTimes, this_machine

    def took(ms: float, side: int) -> FrameTimes:
        return FrameTimes((side, side), 1, 35, Spread(ms, ms, ms, 3), 1e3 / ms, [])

    result = Benchmark("0", this_machine())
    assert result.scaling() is None
    result.frames = [took(10.0, 1024), took(170.0, 4096)]
    assert result.scaling() == pytest.approx(17)
    result.zernike = [
        ZernikeTimes(name, 36, Spread(us, us, us, 3), 1) for name, us in (("a", 2.0), ("b", 8.0))
    ]
    assert result.ratio(36, "b", "a") == 4
    assert result.ratio(36, "c", "a") is None
    assert result.ratio(128, "b", "a") is None
