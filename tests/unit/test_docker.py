"""The image and the compose file, without an engine: they are read, and what they refer to is looked up."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from latticewatch.cli import build
from latticewatch.config import load_settings


@pytest.fixture(scope="module")
def compose(project: Path) -> dict:
    return yaml.safe_load((project / "docker" / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def instructions(project: Path) -> list[tuple[str, str]]:
    text = (project / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_is_built_in_two_stages_and_runs_as_nobody_special(
    instructions: list[tuple[str, str]],
) -> None:
    assert sum(word == "FROM" for word, _ in instructions) == 2
    users = [rest for word, rest in instructions if word == "USER"]
    assert users
    assert users[-1].split(":")[0] not in ("root", "0")


def test_every_file_that_the_image_copies_exists(instructions: list[tuple[str, str]], project: Path) -> None:
    copies = [rest.split() for word, rest in instructions if word == "COPY" and "--from=" not in rest]
    assert copies
    for *sources, _ in copies:
        for source in sources:
            assert (project / source).exists(), source


def test_the_image_holds_no_key_and_checks_its_own_health(instructions: list[tuple[str, str]]) -> None:
    assert not [rest for word, rest in instructions if word in ("ENV", "ARG") and "KEY" in rest.upper()]
    (health,) = [rest for word, rest in instructions if word == "HEALTHCHECK"]
    assert "/healthz" in health


def test_the_service_is_published_on_loopback_only_and_asks_for_a_key(compose: dict) -> None:
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port}"
    key = compose["services"]["service"]["environment"]["LATTICEWATCH_SERVE__CONTROL_KEY"]
    assert key.startswith("${LATTICEWATCH_KEY:?"), "compose refuses to start without the key"


def test_frames_and_stage_moves_stay_on_an_internal_network(compose: dict) -> None:
    assert compose["networks"]["frames"]["internal"] is True
    assert compose["services"]["simulator"]["networks"] == ["frames"]


def test_the_build_context_and_dockerfile_exist(compose: dict, project: Path) -> None:
    for service in compose["services"].values():
        if "build" in service:
            context = (project / "docker" / service["build"]["context"]).resolve()
            assert context == project
            assert (context / service["build"]["dockerfile"]).is_file()


def test_monitoring_mounts_files_that_exist_and_publishes_on_loopback_only(project: Path) -> None:
    text = (project / "docker" / "compose.monitoring.yaml").read_text(encoding="utf-8")
    for service in yaml.safe_load(text)["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (project / "docker" / source).is_file(), source
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_every_alert_says_what_to_do(project: Path) -> None:
    rules = yaml.safe_load((project / "docker/monitoring/alerts.yaml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    page = (project / "docs/how-to/monitor-a-service.md").read_text(encoding="utf-8")
    assert alerts == set(re.findall(r"`(Latticewatch\w+)`", page))


@pytest.mark.parametrize("name", ["latticewatch.service", "latticewatch@.service"])
def test_the_units_of_systemd_start_the_service_with_options_that_exist(project: Path, name: str) -> None:
    unit = (project / "docker" / name).read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=\S+/latticewatch (.+)$", unit, flags=re.MULTILINE)
    words = command.split()
    known = {option for one in build("serve").registered_commands for option in _options(one.callback)}
    assert words[0] == "serve"
    assert {word for word in words if word.startswith("--")} <= known


def test_a_unit_for_each_microscope_shares_no_directory_and_no_settings(project: Path) -> None:
    unit = (project / "docker/latticewatch@.service").read_text(encoding="utf-8")
    own = re.findall(
        r"/(?:var/lib|var/cache|etc)/latticewatch\S*|^\w+Directory=\S+", unit, flags=re.MULTILINE
    )
    assert len(own) >= 6
    assert all("%i" in one or one.endswith("NAME.env") for one in own)


def test_settings_of_a_unit_as_the_guide_shows_them_are_read(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (project / "docs/how-to/attach-a-microscope.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^```ini\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    for name, _, value in (line.partition("=") for line in lines.splitlines()):
        monkeypatch.setenv(name, value)
    settings = load_settings(None)
    assert settings.ingest.sources == ("tcp://titan-pc:5555",)
    assert settings.serve.http == "127.0.0.1:8765"


def test_services_of_several_microscopes_share_no_volume_no_port_and_no_name(project: Path) -> None:
    text = (project / "docker/compose.microscopes.yaml").read_text(encoding="utf-8")
    compose = yaml.safe_load(text)
    services = compose["services"].values()
    mounted = [volume.split(":")[0] for service in services for volume in service["volumes"]]
    assert sorted(mounted) == sorted(compose["volumes"])
    ports = [service["ports"][0] for service in services]
    assert len(set(ports)) == len(ports)
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for option in ("--instrument", "--source"):
        given = [service["command"][service["command"].index(option) + 1] for service in services]
        assert len(set(given)) == len(given), option


def _options(command: Callable[..., Any] | None) -> set[str]:
    assert command is not None
    return {f"--{name.replace('_', '-')}" for name in inspect.signature(command).parameters}


def test_scheduler_and_workers_are_reached_by_the_service_alone(project: Path, compose: dict) -> None:
    scale = yaml.safe_load((project / "docker" / "compose.scale.yaml").read_text(encoding="utf-8"))
    assert scale["networks"]["cluster"]["internal"] is True
    for name in ("scheduler", "worker"):
        one = scale["services"][name]
        assert one["networks"] == ["cluster"]
        assert "ports" not in one
        assert one["image"] == compose["services"]["service"]["image"]
        assert one["read_only"] is True
    service = scale["services"]["service"]
    assert set(compose["services"]["service"]["networks"]) < set(service["networks"])
    address = service["environment"]["LATTICEWATCH_ANALYSIS__EXECUTOR"]
    entry = scale["services"]["scheduler"]["entrypoint"]
    assert address == f"dask://scheduler:{entry[entry.index('--port') + 1]}"
    assert load_settings(analysis={"executor": address}).analysis.executor == address


def test_the_image_has_the_package_that_scheduler_and_workers_run(
    instructions: list[tuple[str, str]],
) -> None:
    (installed,) = [re.findall(r"\.\[(.+?)\]", rest) for word, rest in instructions if "pip install" in rest]
    assert set(installed[0].split(",")) == {"all", "dask"}


@pytest.mark.parametrize("name", ["scheduler", "worker"])
def test_commands_of_the_cluster_have_the_options_that_they_are_given(project: Path, name: str) -> None:
    cli = pytest.importorskip(f"distributed.cli.dask_{name}", reason="the dask extra is not installed")
    scale = yaml.safe_load((project / "docker" / "compose.scale.yaml").read_text(encoding="utf-8"))
    program, command, *options = scale["services"][name]["entrypoint"]
    assert (program, command) == ("dask", name)
    known = {
        option for parameter in cli.main.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {option for option in options if option.startswith("--")} <= known
