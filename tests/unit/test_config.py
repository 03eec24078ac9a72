"""Where settings come from, which source wins, and what is said about those that cannot work."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import structlog

from latticewatch.cli import main
from latticewatch.cli._serve import log_to_stderr
from latticewatch.config import Settings, load_settings
from latticewatch.errors import ConfigurationError
from latticewatch.origins import names_of, origins_of


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LATTICEWATCH_")]:
        monkeypatch.delenv(name)


def test_command_line_wins_over_environment_over_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "latticewatch.toml"
    config.write_text("[analysis]\nthreads = 3\nseed = 3\nn_max = 8\n", encoding="utf-8")
    monkeypatch.setenv("LATTICEWATCH_ANALYSIS__THREADS", "5")
    monkeypatch.setenv("LATTICEWATCH_ANALYSIS__SEED", "5")
    analysis = load_settings(config, analysis={"threads": 7, "patch_size": None}).analysis
    assert (analysis.threads, analysis.seed, analysis.n_max, analysis.patch_size) == (7, 5, 8, "auto")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[ingest]\nqueue_frames = 0\n", "ingest.queue_frames"),
        ("[ingest]\nsource = ['tcp://127.0.0.1:5555']\n", "ingest.source"),
        ("[serve]\nhttp = 'nowhere'\n", "serve.http"),
        ("not toml", "latticewatch.toml"),
    ],
)
def test_a_setting_that_cannot_work_is_named(text: str, named: str, tmp_path: Path) -> None:
    config = tmp_path / "latticewatch.toml"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=named):
        load_settings(config)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml"):
        load_settings(tmp_path / "absent.toml")


def test_a_list_in_the_environment_that_is_not_json_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATTICEWATCH_INGEST__SOURCES", "tcp://127.0.0.1:5555")
    with pytest.raises(ConfigurationError, match="JSON"):
        load_settings()


def test_keys_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATTICEWATCH_SERVE__CONTROL_KEY", "open-sesame")
    settings = load_settings()
    assert settings.serve.control_key is not None
    assert settings.serve.control_key.get_secret_value() == "open-sesame"
    assert "open-sesame" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("LATTICEWATCH_INGEST__SOURCE", "LATTICEWATCH_INGEST__SOURCES is meant"),
        ("LATTICEWATCH_INGES__MODE", "LATTICEWATCH_INGEST__MODE is meant"),
        ("LATTICEWATCH_THREADS", "LATTICEWATCH_ANALYSIS__THREADS is meant"),
        ("LATTICEWATCH_SERVE__BANANA", "no such setting$"),
    ],
)
def test_a_variable_that_means_no_setting_is_refused_with_the_nearest(
    variable: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigurationError, match=f"{variable}: no such setting.*") as refused:
        load_settings()
    assert re.search(says, str(refused.value))


def test_a_key_of_a_file_that_is_no_setting_is_refused_with_the_nearest(tmp_path: Path) -> None:
    config = tmp_path / "latticewatch.toml"
    config.write_text("[analysis]\nthread = 2\n", encoding="utf-8")
    with pytest.raises(
        ConfigurationError, match=r"analysis\.thread: no such setting; analysis\.threads is meant"
    ):
        load_settings(config)


@pytest.mark.parametrize(
    "variable", ["LATTICEWATCH_SERVICE_HOST", "LATTICEWATCH_PORT_8765_TCP", "LATTICEWATCH_KEY"]
)
def test_variables_that_others_make_stop_no_start(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    load_settings()


def test_each_setting_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "latticewatch.toml"
    config.write_text("[analysis]\nthreads = 3\nseed = 3\nn_max = 8\n", encoding="utf-8")
    monkeypatch.setenv("LATTICEWATCH_ANALYSIS__SEED", "5")
    monkeypatch.setenv("LATTICEWATCH_SERVE__HTTP", "127.0.0.1:1")
    origins = origins_of(names_of(Settings), config, {"analysis": {"threads": 7, "patch_size": None}})
    assert origins["analysis.threads"] == "command line"
    assert origins["analysis.seed"] == origins["serve.http"] == "environment"
    assert origins["analysis.n_max"] == "file"
    assert origins["analysis.patch_size"] == "default"


def test_config_show_says_values_and_origins_and_hides_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LATTICEWATCH_SERVE__CONTROL_KEY", "open-sesame")
    monkeypatch.setenv("LATTICEWATCH_ANALYSIS__THREADS", "3")
    with pytest.raises(SystemExit, match="0"):
        main(["config", "show", "--json", "--changed"])
    printed = capsys.readouterr().out
    assert "open-sesame" not in printed
    shown = json.loads(printed)
    assert shown["analysis.threads"] == {"value": 3, "from": "environment"}
    assert set(shown) == {"analysis.threads", "serve.control_key"}


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("SERVE__HTTP", "0.0.0.0:8765", "there is no key"),
        ("RECORD__DATA_DIR", "{file}/below", "is not a folder"),
        ("ANALYSIS__MODEL", "{file}.npz", "No such file"),
    ],
)
def test_config_check_refuses_what_could_not_start(
    variable: str,
    value: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv(f"LATTICEWATCH_{variable}", value.format(file=file))
    with pytest.raises(SystemExit, match="2"):
        main(["config", "check"])
    assert says in capsys.readouterr().err


def test_the_log_can_be_a_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        log_to_stderr(as_json=True)
        try:
            raise ValueError("of no size")
        except ValueError:
            structlog.get_logger("latticewatch").exception("frame dropped", frame=7, path=Path("x"))
    finally:
        structlog.configure(**before)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["frame"], line["path"]) == ("frame dropped", "error", 7, "x")
    assert line["time"].endswith("Z")
    assert "ValueError: of no size" in line["exception"]
