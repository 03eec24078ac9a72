"""Where settings come from, which source wins, and what is said about those that cannot work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from latticewatch.config import load_settings
from latticewatch.errors import ConfigurationError


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
