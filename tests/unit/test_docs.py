"""The documentation says what the code says: names, examples, links."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from latticewatch.cli import COMMANDS
from latticewatch.config import Section, Settings, load_settings
from latticewatch.messages import (
    EVENT_TYPES,
    ClassEventData,
    ControlReply,
    ControlRequest,
    DefectEventData,
    Event,
    FrameHeader,
    FramesLostData,
    ModelEventData,
    SeriesEnd,
    SeriesStart,
    StreamEventData,
)

LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def pages(project: Path) -> list[Path]:
    tops = (project / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docker/README.md"))
    return [*tops, *sorted((project / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Contents of the fenced blocks of one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_every_link_and_picture_leads_to_a_file_in_the_clone(project: Path) -> None:
    broken = [
        f"{page.relative_to(project)}: {target}"
        for page in pages(project)
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_page_is_reached_from_the_index_or_the_readme(project: Path) -> None:
    reached = {
        (page.parent / target).resolve()
        for page in (project / "README.md", project / "docs/index.md", project / "docs/decisions/README.md")
        for target in LINK.findall(page.read_text(encoding="utf-8"))
    }
    pages_below = {page for page in (project / "docs").rglob("*.md") if page.name != "index.md"}
    assert pages_below - reached == set()


def test_python_examples_compile(project: Path) -> None:
    examples = [(page, block) for page in pages(project) for block in blocks(page, "python")]
    assert examples
    for page, block in examples:
        compile(block, str(page), "exec")


def test_toml_examples_load(project: Path, tmp_path: Path) -> None:
    examples = [block for page in pages(project) for block in blocks(page, "toml")]
    assert examples
    for block in examples:
        config = tmp_path / "example.toml"
        config.write_text(block, encoding="utf-8")
        load_settings(config)


def of_all() -> dict[str, Any]:
    """Those of the configuration, without what is told of one microscope alone."""
    return {
        name: field for name, field in Settings.model_fields.items() if isinstance(field.default, Section)
    }


def test_the_example_configuration_holds_every_setting_at_its_default(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("LATTICEWATCH_")]:
        monkeypatch.delenv(name)
    # copied as it is, it changes nothing: a pixel size in it would calibrate frames that have none
    loaded = load_settings(project / "docs/reference/latticewatch.toml").model_dump()
    assert loaded == Settings().model_dump()
    text = (project / "docs/reference/latticewatch.toml").read_text(encoding="utf-8")
    for section, field in of_all().items():
        assert f"\n[{section}]\n" in text
        for name in type(field.default).model_fields:
            assert re.search(rf"\b{name}\b", text), f"[{section}] {name}"


def test_the_configuration_page_names_every_setting_under_its_section(project: Path) -> None:
    page = (project / "docs/reference/configuration.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## \[(\w+)\].*?\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL))
    assert {
        name: re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE) for name, text in sections.items()
    } == {name: list(type(field.default).model_fields) for name, field in of_all().items()}


def test_the_commands_page_has_a_section_for_every_command(project: Path) -> None:
    page = (project / "docs/reference/commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, flags=re.MULTILINE) == list(COMMANDS)


def test_the_events_page_lists_every_type_and_every_field(project: Path) -> None:
    page = (project / "docs/reference/events.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+\.\w+)` \|", page, flags=re.MULTILINE) == list(EVENT_TYPES)
    for model in (DefectEventData, ClassEventData, ModelEventData, FramesLostData, StreamEventData):
        for name in model.model_fields:
            assert f"`{name}`" in page, f"{model.__name__}.{name}"


def test_the_example_event_is_one(project: Path) -> None:
    (example,) = blocks(project / "docs/reference/events.md", "json")
    event = Event.model_validate_json(example)
    assert event.id == f"{event.stream}:{event.seq}"
    assert DefectEventData.model_validate(event.data).model_dump(exclude_unset=True) == event.data


def test_the_wire_page_lists_every_field_of_a_header(project: Path) -> None:
    page = (project / "docs/reference/wire-format.md").read_text(encoding="utf-8")
    for name, field in FrameHeader.model_fields.items():
        assert f"`{field.serialization_alias or name}`" in page, name


def test_the_example_headers_are_read(project: Path) -> None:
    frame, start, end = blocks(project / "docs/reference/wire-format.md", "json")
    header = FrameHeader.model_validate_json(frame)
    assert header.shape == (1024, 1024)
    assert not header.model_extra, "the example uses fields that are known"
    assert not SeriesStart.model_validate_json(start).model_extra
    assert SeriesEnd.model_validate_json(end).frames == 899


def test_the_example_stage_move_and_its_reply_are_valid(project: Path) -> None:
    request, reply = blocks(project / "docs/how-to/steer-the-stage.md", "json")
    assert ControlRequest.model_validate(json.loads(request)).action == "move_stage"
    assert ControlReply.model_validate(json.loads(reply)).done


def test_every_note_is_in_the_guide_to_what_is_wrong(project: Path) -> None:
    sources = (project / "service/latticewatch").rglob("*.py")
    codes = {code for path in sources for code in re.findall(r'\bcode="([a-z-]+)"', path.read_text("utf-8"))}
    page = (project / "docs/how-to/troubleshoot.md").read_text(encoding="utf-8")
    assert len(codes) > 15
    assert sorted(code for code in codes if f"`{code}`" not in page) == []


# What the next reader should find at first guess.
ASKED_FIRST = (
    "a class (is )?born",
    "a posterior",
    "an event .*number",
    "a frame (is )?dropped",
    "a chart .*data",
)


def rows_of(page: str) -> list[tuple[str, list[str]]]:
    """What each row of the tables is about, and what it names in code."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", page, flags=re.MULTILINE)
    return [(what, names) for what, where in rows if (names := re.findall(r"`([^`]+)`", where))]


def below(project: Path, name: str) -> Path:
    return project / name if name.startswith("clients/") else project / "service/latticewatch" / name


def not_there(project: Path, names: list[str]) -> list[str]:
    """Files and folders that do not exist, and names that the files of the same row do not define."""
    paths = [below(project, name) for name in names if "/" in name]
    files = [file for path in paths for file in (path.glob("*.py") if path.is_dir() else [path])]
    text = "".join(file.read_text(encoding="utf-8") for file in files if file.exists())
    missing = [path.name for path in paths if not path.exists()]
    for name in names:
        if "/" not in name:
            parts = name.split(".")
            missing += [part for part in parts if not re.search(rf"\b(def|class) {part}\b", text)]
    return missing


@pytest.mark.parametrize("page", ["docs/explanation/life-of-a-frame.md", "CONTRIBUTING.md"])
def test_the_map_of_the_code_leads_to_what_it_names(project: Path, page: str) -> None:
    text = (project / page).read_text(encoding="utf-8")
    text = text.partition("## Where ")[2].partition("## Set up")[0]
    rows = rows_of(text)
    for what in ASKED_FIRST:
        assert any(re.search(what, about) for about, _ in rows), what
    assert {about: lost for about, names in rows if (lost := not_there(project, names))} == {}


def test_a_map_that_leads_nowhere_is_noticed(project: Path) -> None:
    row = "| a class is born | `born` in `discover/_births.py`, `Nobody.born`, `discover/_nowhere.py` |"
    ((_, names),) = rows_of(row)
    assert not_there(project, names) == ["_nowhere.py", "Nobody"]


def test_the_drawing_of_the_life_of_a_frame_names_files_that_exist(project: Path) -> None:
    (drawing,) = blocks(project / "docs/explanation/life-of-a-frame.md", "text")
    named = re.findall(r"\b[a-z_]+/(?:_\w+\.py)?", drawing)
    assert len(named) > 10
    assert [name for name in named if not below(project, name).exists()] == []


def test_the_site_shows_every_page_of_the_documentation(project: Path) -> None:
    site = yaml.safe_load((project / "mkdocs.yml").read_text(encoding="utf-8"))
    shown: set[str] = set()
    waiting: list[object] = list(site["nav"])
    while waiting:
        match waiting.pop():
            case str(page):
                shown.add(page)
            case list(pages):
                waiting += pages
            case dict(named):
                waiting += named.values()
    docs = project / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    assert shown <= pages
    assert {page for page in pages - shown if not page.startswith("decisions/")} == set()


def test_each_promise_names_a_test_that_is_there(project: Path) -> None:
    page = (project / "docs/explanation/guarantees.md").read_text(encoding="utf-8")
    promises = re.findall(r"^\| (?!promise|-)(.+?) \| (.+) \|$", page, flags=re.MULTILINE)
    assert len(promises) > 20
    for promise, where in promises:
        files = re.findall(r"`(tests/[\w/]+\.py)`", where)
        assert files, promise
        assert all((project / file).is_file() for file in files), promise
