"""What the files around the code promise."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import latticewatch

PINNED_EXTRAS = ("service", "simulator", "io", "dask")
# A registry's or mirror's address in a tracked file ties every clone to it.
ADDRESS = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian\.org|--(extra-)?index-url|--find-links"
)


@pytest.fixture(scope="module")
def pyproject(project: Path) -> dict:
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins(project: Path) -> dict[str, Version]:
    lines = (project / "constraints.txt").read_text(encoding="ascii").splitlines()
    found = [
        re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)", line) for line in lines if not line.startswith("#")
    ]
    assert all(found), "every line of constraints.txt is a comment or name==version"
    return {match[1]: Version(match[2]) for match in found if match}


def tracked_files(project: Path) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=project, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git clone: there is no list of tracked files")
    return [
        file for name in listed.stdout.decode().split("\0") if name and (file := project / name).is_file()
    ]


def test_every_dependency_is_pinned_at_a_version_that_it_allows(
    pyproject: dict, pins: dict[str, Version]
) -> None:
    table = pyproject["project"]
    groups = pyproject["dependency-groups"]
    extras = [text for extra in PINNED_EXTRAS for text in table["optional-dependencies"][extra]]
    for text in [*table["dependencies"], *extras, *groups["test"], *groups["lint"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_pins_are_sorted_and_do_not_pin_the_project_itself(pins: dict[str, Version]) -> None:
    assert list(pins) == sorted(pins)
    assert "latticewatch" not in pins


def test_the_extra_all_brings_what_one_machine_needs(pyproject: dict) -> None:
    assert pyproject["project"]["optional-dependencies"]["all"] == ["latticewatch[service,simulator,io]"]


def test_the_version_is_the_same_in_code_and_metadata(pyproject: dict) -> None:
    assert latticewatch.__version__ == pyproject["project"]["version"]


def test_every_source_root_is_packaged(pyproject: dict, project: Path) -> None:
    packaged = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    on_disk = [
        str(init.parent.relative_to(project))
        for root in ("service", "clients", "simulator")
        for init in (project / root).glob("*/__init__.py")
    ]
    assert set(on_disk) <= set(packaged)
    for root in ("service", "clients", "simulator"):
        assert not (project / root / "__init__.py").exists(), "a source root is a folder, not a package"


def test_tracked_files_name_no_registry_and_are_small(project: Path) -> None:
    this = Path(__file__)
    for file in tracked_files(project):
        content = file.read_bytes()
        assert len(content) <= 2**20, (
            f"{file}: {len(content)} bytes; files above 1 MiB do not belong in the clone"
        )
        if file != this and b"\0" not in content:
            assert not ADDRESS.search(content.decode("utf-8")), f"{file} names a registry"


def test_no_lock_file_with_addresses_is_tracked(project: Path) -> None:
    names = {file.name for file in tracked_files(project)}
    assert not names & {"uv.lock", "poetry.lock", "pylock.toml"}


def test_ci_takes_its_test_command_from_the_readme(project: Path) -> None:
    readme = (project / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^<!-- run: (\w+) -->\n```bash\n(.+?)\n```$", readme, flags=re.MULTILINE | re.DOTALL)
    commands = dict(blocks)
    assert set(commands) == {"demo", "tests"}
    for command in commands.values():
        assert command.startswith("python3 -m venv .venv && "), "complete on a fresh machine"
        assert "-c constraints.txt" in command
    assert "pytest" in commands["tests"]
    script = (project / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_command tests" in script
    assert "-m pytest" not in script, "CI runs the README's command and no other"


def test_the_changelog_has_an_unreleased_section(project: Path) -> None:
    changelog = (project / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "\n## [Unreleased]\n" in changelog


def test_decisions_are_numbered_without_gaps_and_listed(project: Path) -> None:
    folder = project / "docs" / "decisions"
    numbered = sorted(file.name for file in folder.glob("[0-9]*.md"))
    assert [int(name[:4]) for name in numbered] == list(range(1, len(numbered) + 1))
    index = (folder / "README.md").read_text(encoding="utf-8")
    for name in numbered:
        assert f"({name})" in index, f"docs/decisions/README.md does not list {name}"
        text = (folder / name).read_text(encoding="utf-8")
        for heading in ("Status", "Context", "Decision", "Consequences"):
            assert re.search(rf"^(## {heading}|{heading}:)", text, flags=re.MULTILINE), (
                f"{name} lacks {heading}"
            )
