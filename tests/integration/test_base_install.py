"""The base install, in a clean environment: what a control machine gets, and what it does not."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

NOT_IN_THE_BASE = (
    "numba",
    "sklearn",
    "scipy",
    "zmq",
    "fastapi",
    "uvicorn",
    "ase",
    "h5py",
    "matplotlib",
    "rsciio",
)
# What pip says when it cannot reach a registry, as opposed to finding something wrong there.
UNREACHABLE = (
    "NewConnectionError",
    "Failed to establish a new connection",
    "NameResolutionError",
    "Temporary failure in name resolution",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Network is unreachable",
    "ProxyError",
)
LOOK = """
import importlib.util, json, sys
import latticewatch_client as client, latticewatch.messages, latticewatch.errors
print(json.dumps({
    "present": [name for name in sys.argv[1:] if importlib.util.find_spec(name)],
    "exports": [client.Client.__name__, client.AsyncClient.__name__],
    "from": client.__file__,
}))
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as on another machine: nothing of this environment's Python leaks into it."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


@pytest.fixture(scope="module")
def base(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the executables of an environment that holds the project without any extra."""
    home = tmp_path_factory.mktemp("base")
    venv.create(home / "venv", with_pip=True, symlinks=os.name != "nt")
    programs = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = (programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    installed = run(*pip, "-c", project / "constraints.txt", project, cwd=home)
    if (
        installed.returncode
        and not os.environ.get("CI")
        and any(sign in installed.stderr for sign in UNREACHABLE)
    ):
        pytest.skip("the package registry cannot be reached, so nothing can be installed")
    assert installed.returncode == 0, installed.stderr
    return programs


def test_the_client_is_imported_without_what_the_service_needs(base: Path, tmp_path: Path) -> None:
    looked = run(base / "python", "-c", LOOK, *NOT_IN_THE_BASE, cwd=tmp_path)
    assert looked.returncode == 0, looked.stderr
    found = json.loads(looked.stdout)
    assert found["present"] == []
    assert found["exports"] == ["Client", "AsyncClient"]
    assert Path(found["from"]).is_relative_to(base.parent), "the installed package, not the clone"


def test_the_command_line_lists_its_commands_and_version(base: Path, tmp_path: Path) -> None:
    helped = run(base / "latticewatch", "--help", cwd=tmp_path)
    assert helped.returncode == 0, helped.stderr
    for command in ("demo", "serve", "simulate", "replay", "analyse", "events", "classes", "loop"):
        assert command in helped.stdout
    version = run(base / "latticewatch", "--version", cwd=tmp_path)
    assert version.stdout.split()[:2] == ["0.1.0", "(Python"]


@pytest.mark.parametrize("command", ["serve", "bench"])
def test_a_command_that_needs_an_extra_names_it_in_one_line(base: Path, tmp_path: Path, command: str) -> None:
    refused = run(base / "latticewatch", command, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert "latticewatch[service]" in line


def test_events_of_a_service_that_is_not_there_give_one_line(base: Path, tmp_path: Path) -> None:
    refused = run(base / "latticewatch", "events", "--service", "http://127.0.0.1:9", cwd=tmp_path)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "127.0.0.1:9" in refused.stderr


def test_the_dashboard_is_packaged_with_its_files(base: Path, tmp_path: Path) -> None:
    code = (
        "import latticewatch_dashboard as d, pathlib; print(*pathlib.Path(d.__path__[0]).rglob('index.html'))"
    )
    page = Path(run(base / "python", "-c", code, cwd=tmp_path).stdout.strip())
    assert page.is_relative_to(base.parent)
    assert page.is_file()
