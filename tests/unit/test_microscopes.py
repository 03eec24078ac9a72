"""Sources of a service, sorted into microscopes."""

from __future__ import annotations

from pathlib import Path

import pytest

from latticewatch.config import Settings, load_settings
from latticewatch.errors import ConfigurationError
from latticewatch.microscopes import microscopes_of


def settings(*sources: str, **ingest) -> Settings:
    return load_settings(
        None,
        ingest={"sources": sources, **ingest},
        serve={"instrument": "lab"},
        record={"data_dir": Path("data"), "recording": Path("recording")},
    )


def addresses(*sources: str, **ingest) -> dict[str, tuple[str, ...]]:
    return {name: one.ingest.sources for name, one in microscopes_of(settings(*sources, **ingest)).items()}


def test_one_source_without_a_name_is_the_service_itself():
    given = settings("tcp://titan-pc:5555")
    assert microscopes_of(given) == {"": given}


def test_sources_are_a_microscope_each_with_folders_and_name_of_its_own():
    watched = microscopes_of(settings("titan=tcp://titan-pc:5555", "nion=tcp://nion-pc:5555"))
    assert list(watched) == ["titan", "nion"]
    for name, one in watched.items():
        assert one.ingest.sources == (f"tcp://{name}-pc:5555",)
        assert one.serve.instrument == name
        assert (one.record.data_dir, one.record.recording) == (Path("data", name), Path("recording", name))
        # what is one microscope already stays one
        assert microscopes_of(one) == {"": one}


def test_a_name_keeps_its_folder_when_it_is_alone():
    assert addresses("titan=tcp://titan-pc:5555") == {"titan": ("tcp://titan-pc:5555",)}


def test_sources_of_one_name_are_one_microscope():
    assert addresses("titan=tcp://a:1", "nion=tcp://b:1", "titan=tcp://c:1") == {
        "titan": ("tcp://a:1", "tcp://c:1"),
        "nion": ("tcp://b:1",),
    }


def test_sources_without_names_are_called_after_their_addresses():
    assert list(addresses("tcp://titan-pc:5555", "merlin://10.0.0.7", "ipc:///tmp/nion", "tcp://*:5555")) == [
        "titan-pc-5555",
        "10.0.0.7",
        "tmp-nion",
        "5555",
    ]
    # alike, but not the same microscope, and not one that was named so
    assert list(addresses("tcp://a:1", "a-1=tcp://b:1", "tcp://a:1", "tcp://v1")) == [
        "a-1-2",
        "a-1",
        "a-1-3",
        "v1-2",
    ]


def test_all_sources_may_be_of_one_microscope():
    given = settings("tcp://a:1", "tcp://b:1", one_microscope=True)
    assert microscopes_of(given) == {"": given}
    with pytest.raises(ConfigurationError, match="titan: with"):
        addresses("titan=tcp://a:1", "tcp://b:1", one_microscope=True)


@pytest.mark.parametrize("name", ["v1", "metrics", "", "-a", "a b", "ä", "x" * 65])
def test_a_name_that_cannot_be_part_of_an_address_is_refused(name: str):
    with pytest.raises(ConfigurationError, match="cannot be the name of a microscope"):
        addresses(f"{name}=tcp://a:1")


def told(tmp_path: Path, text: str) -> dict[str, Settings]:
    config = tmp_path / "latticewatch.toml"
    config.write_text(
        'ingest.sources = ["titan=tcp://a:1", "nion=tcp://b:1"]\ningest.queue_frames = 7\n' + text
    )
    return microscopes_of(load_settings(config))


def test_what_is_said_of_one_microscope_wins_over_what_is_said_of_all(tmp_path: Path):
    watched = told(
        tmp_path,
        """
        analysis = { material = "WS2", threads = 3 }
        [microscopes.nion]
        ingest = { detector = "MAADF", pixel_size_nm = 0.012 }
        analysis = { material = "MoSe2" }
        """,
    )
    assert [one.analysis.material for one in watched.values()] == ["WS2", "MoSe2"]
    assert [one.ingest.detector for one in watched.values()] == [None, "MAADF"]
    assert [one.ingest.sources for one in watched.values()] == [("tcp://a:1",), ("tcp://b:1",)]
    for one in watched.values():
        assert (one.analysis.threads, one.ingest.queue_frames) == (3, 7)
        assert microscopes_of(one) == {"": one}


def test_the_environment_can_say_it_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LATTICEWATCH_MICROSCOPES__NION__ANALYSIS__MATERIAL", "MoSe2")
    given = load_settings(None, ingest={"sources": ("titan=tcp://a:1", "nion=tcp://b:1")})
    assert [one.analysis.material for one in microscopes_of(given).values()] == [None, "MoSe2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[microscopes.jeol.analysis]\nmaterial = "WS2"', "jeol: no such microscope.*titan, nion"),
        (
            "[microscopes.nion.analysis]\nmateral = 1",
            r"microscopes\.nion\.analysis\.materal: .*analysis\.material is meant",
        ),
        ("[microscopes.nion.ingest]\nqueue_frames = 0", r"microscopes\.nion\.ingest\.queue_frames.*got 0"),
        ('[microscopes.nion.ingest]\nsources = ["tcp://c:1"]', "of all microscopes"),
        ("[microscopes.nion.serve]\nmax_connections = 1", r"microscopes\.nion\.serve"),
    ],
)
def test_settings_of_one_microscope_that_cannot_work_stop_the_start(tmp_path: Path, text: str, said: str):
    with pytest.raises(ConfigurationError, match=said):
        told(tmp_path, text)
