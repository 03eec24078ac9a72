"""Every command in the documentation is one that works.

All of them are parsed by the real command line, so an option that is renamed fails here; the offline ones
that take seconds are run; and the Python examples talk over real sockets.
"""

from __future__ import annotations

import contextlib
import http.server
import inspect
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import typer.main
import yaml
import zmq
from typer.testing import CliRunner

from latticewatch.cli import COMMANDS, build
from latticewatch.messages import Event, EventPage, FrameHeader
from latticewatch_client import FakeService
from latticewatch_client.microscope import Microscope

PROJECT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A ``latticewatch`` command as somebody reads it."""

    page: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.arguments)}"


def pages() -> list[Path]:
    tops = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "docker/README.md")]
    return [*tops, *sorted((PROJECT / "docs").rglob("*.md"))]


def simple_commands(line: str) -> Iterator[list[str]]:
    """Words of each command of a shell line, split at ``&&``, ``|``, ``;`` and parentheses."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word and set(word) <= set("();<>|&"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def arguments_of(words: list[str]) -> list[str] | None:
    """What follows ``latticewatch``, called by itself, by its path, or as the image of ``docker run``."""
    names = [Path(word).name for word in words]
    if names[:1] == ["latticewatch"]:
        return words[1:]
    if words[:2] == ["docker", "run"]:
        return words[words.index("latticewatch") + 1 :]
    return None


def shown_in_text(page: Path) -> Iterator[Shown]:
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in ("bash", "console", "sh"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for words in simple_commands(line.removeprefix("$ ")):
                arguments = arguments_of(words)
                if arguments:
                    yield Shown(str(page.relative_to(PROJECT)), tuple(arguments))


def shown_in_docker() -> Iterator[Shown]:
    for name in ("docker/compose.yaml", "docker/compose.microscopes.yaml"):
        compose = yaml.safe_load((PROJECT / name).read_text(encoding="utf-8"))
        for service in compose["services"].values():
            yield Shown(name, tuple(service["command"]))
    dockerfile = (PROJECT / "docker/Dockerfile").read_text(encoding="utf-8")
    (command,) = re.findall(r"^CMD (\[.*\])$", dockerfile, flags=re.MULTILINE)
    yield Shown("docker/Dockerfile", tuple(json.loads(command)))


SHOWN = sorted({*(shown for page in pages() for shown in shown_in_text(page)), *shown_in_docker()}, key=str)
RUN = sorted(
    {shown.arguments for shown in SHOWN if shown.arguments[0] == "analyse" and "image.npy" in shown.arguments}
)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documentation speaks of."""
    for name in ("image.npy", "image.dm4"):
        (tmp_path / name).touch()
    shutil.copy(PROJECT / "docs/reference/latticewatch.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hexagonal_frame(rng: np.random.Generator) -> np.ndarray:
    """Columns of two heights on a honeycomb with a lattice constant of 16 px, with shot noise."""
    rows, cols = np.mgrid[:320, :320].astype(float)
    image = np.full(rows.shape, 20.0)
    for i, j in np.ndindex(26, 36):
        for shift, height in ((0, 200), (1 / 3, 90)):
            row = 16 * np.sqrt(3) / 2 * (i + shift)
            col = 16 * (j - 13 + shift + (i + shift) / 2)
            near = np.s_[max(int(row) - 12, 0) : int(row) + 13, max(int(col) - 12, 0) : max(int(col) + 13, 0)]
            image[near] += height * np.exp(-((rows[near] - row) ** 2 + (cols[near] - col) ** 2) / 12.5)
    return rng.poisson(image).astype(np.uint16)


def parse(arguments: tuple[str, ...]) -> None:
    """Take a command line apart as the real program does, and stop before it runs."""
    name, *rest = arguments
    command = typer.main.get_command(build(name)).commands[name]
    while hasattr(command, "commands"):
        name, *rest = rest
        command = command.commands[name]
    command.make_context(name, rest).close()


def parameters_of(command) -> list:
    """Parameters of a command, or of all the commands of a group."""
    if not hasattr(command, "commands"):
        return command.params
    return [one for below in command.commands.values() for one in parameters_of(below)]


def test_the_documentation_shows_every_command() -> None:
    assert {shown.arguments[0] for shown in SHOWN} == set(COMMANDS)


@pytest.mark.parametrize("shown", SHOWN, ids=str)
@pytest.mark.usefixtures("desk")
def test_a_command_that_is_shown_is_understood(shown: Shown) -> None:
    parse(shown.arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_lists_every_option_with_nothing_invented(name: str) -> None:
    page = (PROJECT / "docs/reference/commands.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {name}$(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    listed = re.findall(
        r"`(--[a-z-]+)`", "".join(re.findall(r"^\| (`--.*?) \|", section, flags=re.MULTILINE))
    )
    parameters = parameters_of(typer.main.get_command(build(name)).commands[name])
    options = [option for each in parameters for option in (*each.opts, *each.secondary_opts)]
    assert sorted(listed) == sorted({option for option in options if option.startswith("--")})


@pytest.mark.usefixtures("desk")
def test_an_option_that_does_not_exist_would_be_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(("analyse", "image.npy", "--out", "results", "--no-such-option"))


SHORT = sorted({shown.arguments for shown in SHOWN if shown.arguments[0] in ("config", "inspect", "keys")})


@pytest.mark.parametrize("arguments", SHORT, ids=" ".join)
def test_a_short_command_does_word_for_word_what_it_is_shown_for(
    desk: Path, rng: np.random.Generator, arguments: tuple[str, ...]
) -> None:
    if arguments[0] == "inspect" and "image.npy" not in arguments:
        pytest.skip("shown for a file of which there is none here")
    np.save(desk / "image.npy", hexagonal_frame(rng))
    result = CliRunner().invoke(build(arguments[0]), list(arguments))
    assert result.exit_code == 0, result.output
    assert result.output.strip()
    if arguments[:2] == ("keys", "curve"):
        assert {file.name for file in desk.glob("service.*")} == {"service.key", "service.key_secret"}


def test_analyse_writes_what_the_guide_says(desk: Path, rng: np.random.Generator) -> None:
    assert RUN
    np.save(desk / "image.npy", hexagonal_frame(rng))
    guide = (PROJECT / "docs/how-to/analyse-files.md").read_text(encoding="utf-8")
    (columns,) = re.findall(r"`(frame,track,[a-z_,]+)`", guide)
    for arguments in RUN:
        finished = subprocess.run(
            [sys.executable, "-c", "from latticewatch.cli import main; main()", *arguments],
            cwd=desk,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        results = desk / "results"
        sites = (results / "sites.csv").read_text(encoding="utf-8").splitlines()
        assert sites[0] == columns
        assert len(sites) > 100
        for name in re.findall(r"^\| `([a-z]+\.jsonl?)` \|", guide, flags=re.MULTILINE):
            assert (results / name).is_file(), name
        assert list(results.glob("*.png")), "figures"
        shutil.rmtree(results)


def python_example(page: str, containing: str) -> str:
    blocks = FENCE.findall((PROJECT / page).read_text(encoding="utf-8"))
    (example,) = [block for language, block in blocks if language == "python" and containing in block]
    return example


def test_the_publisher_is_the_same_wherever_it_is_shown() -> None:
    readme = python_example("README.md", "zmq.PUB")
    assert python_example("docs/how-to/attach-a-microscope.md", "zmq.PUB") == readme


def test_the_publisher_of_the_readme_sends_frames_that_are_read(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 4096, (48, 64), dtype=np.uint16)
    received = threading.Event()

    def acquire() -> Iterator[np.ndarray]:
        # A subscriber joins late: go on until it has one frame, as a microscope would.
        while not received.wait(0.01):
            yield image

    address = f"ipc://{tmp_path}/frames"
    code = python_example("README.md", "zmq.PUB").replace("tcp://*:5555", address)
    assert address in code
    namespace: dict[str, Any] = {"acquire": acquire}
    publisher = threading.Thread(target=exec, args=(code, namespace))
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe(b"")
        socket.connect(address)
        publisher.start()
        try:
            assert socket.poll(10_000), "nothing arrived"
            head, buffer = socket.recv_multipart()
        finally:
            received.set()
            publisher.join(10)
            namespace["socket"].close(0)
    header = FrameHeader.model_validate_json(head)
    assert header.pixel_size_nm == 0.0106
    assert header.frame is not None
    np.testing.assert_array_equal(np.frombuffer(buffer, header.dtype).reshape(header.shape), image)


def test_the_publisher_class_of_the_how_to_sends_frames_that_are_read(rng: np.random.Generator) -> None:
    from latticewatch.config import IngestSettings
    from latticewatch.ingest import Frame, Receiver

    image = rng.integers(0, 4096, (48, 64), dtype=np.uint16)
    done = threading.Event()
    code = python_example("docs/how-to/attach-a-microscope.md", "scalars=")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    assert "tcp://0.0.0.0:5555" in code

    def acquire() -> Iterator[np.ndarray]:
        while not done.wait(0.01):
            yield image

    publisher = threading.Thread(
        target=exec, args=(code.replace("tcp://0.0.0.0:5555", address), {"acquire": acquire})
    )
    publisher.start()
    try:
        with Receiver(IngestSettings(sources=(address,))) as source:
            while not isinstance(frame := source.get(10), Frame):
                assert frame is not None, "nothing arrived"
    finally:
        done.set()
        publisher.join(10)
    assert np.array_equal(frame.image, image)
    assert (frame.detector, frame.pixel_size_nm, frame.scalars) == ("HAADF", 0.0106, {"temperature_K": 573.0})


@dataclass(frozen=True)
class EventService:
    """Something that answers ``GET /v1/events``: one defect, then nothing more."""

    url: str
    asked_again: threading.Event


@pytest.fixture
def event_service() -> Iterator[EventService]:
    data = {"class_name": "V_S", "px": {"row": 511.2, "col": 88.4}, "confidence": 0.97}
    defect = Event(
        type="defect.appeared",
        source="/latticewatch/stem",
        id="log:7",
        stream="log",
        seq=7,
        time="2026-03-01T10:00:00Z",
        data=data,
    )
    given, asked_again, ended = threading.Event(), threading.Event(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first = not given.is_set()
            given.set()
            if not first:
                asked_again.set()
                ended.wait(20)
            page = EventPage(
                stream="log",
                events=[defect] if first else [],
                next=7,
                first_seq=1,
                last_seq=7,
                server_time="2026-03-01T10:00:01Z",
                last_frame_age_s=0.1,
            )
            body = page.model_dump_json().encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield EventService(f"http://127.0.0.1:{server.server_address[1]}", asked_again)
    ended.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


@contextlib.contextmanager
def running(code: str, service: EventService, cwd: Path) -> Iterator[IO[str]]:
    """The standard output of an example while it runs against the service; it is ended afterwards."""
    code = code.replace("http://127.0.0.1:8765", service.url)
    assert service.url in code
    client = subprocess.Popen([sys.executable, "-u", "-c", code], cwd=cwd, stdout=subprocess.PIPE, text=True)
    alarm = threading.Timer(30, client.kill)
    alarm.start()
    try:
        assert client.stdout is not None
        yield client.stdout
    finally:
        alarm.cancel()
        client.kill()
        client.communicate()


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/follow-events.md"])
def test_the_polling_client_prints_a_defect(page: str, event_service: EventService, tmp_path: Path) -> None:
    with running(python_example(page, 'types=["defect.appeared"]'), event_service, tmp_path) as output:
        assert output.readline() == "7 V_S {'row': 511.2, 'col': 88.4} 0.97\n"


def test_the_client_that_keeps_its_cursor_goes_on_from_it(
    event_service: EventService, tmp_path: Path
) -> None:
    with running(
        python_example("docs/how-to/follow-events.md", "cursor.txt"), event_service, tmp_path
    ) as output:
        assert output.readline().startswith("defect.appeared {")
        assert event_service.asked_again.wait(20), "the client asks for more once it has kept its cursor"
    assert (tmp_path / "cursor.txt").read_text() == "log:7"


def test_a_microscope_as_the_guide_outlines_it_has_every_call_of_the_protocol() -> None:
    namespace: dict[str, Any] = {}
    exec(python_example("docs/how-to/steer-the-stage.md", "class OurMicroscope"), namespace)

    def calls(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(call).parameters)
            for name, call in vars(kind).items()
            if callable(call) and not name.startswith("_")
        }

    assert calls(namespace["OurMicroscope"]) == calls(Microscope)


def test_the_watch_of_the_guide_lists_what_is_there_and_then_what_happens() -> None:
    data = {
        "series_id": "a", "frame": 0, "t_received": 1.0, "t_emitted": 1.0, "model_version": 1, "track": 1,
        "class_id": 3, "class_name": "V_S", "role": "defect", "confidence": 0.9, "px": {"row": 5.0, "col": 9.0},
        "sigma_px": 0.1,
    }  # fmt: skip
    said: list[tuple[object, ...]] = []

    class EnoughError(Exception):
        pass

    def enough(*words: object) -> None:
        said.append(words)
        if words == ("stream.stalled",):
            raise EnoughError

    code = python_example("docs/how-to/follow-events.md", "client.watch()")
    with FakeService([{"type": "defect.appeared", "data": data}]) as service, service.client() as client:
        stalled = {"type": "stream.stalled", "data": {"series_id": "a", "last_frame_age_s": 9.0}}
        # once it has listed what is there
        later = threading.Timer(0.5, service.tell, [stalled])
        later.start()
        with pytest.raises(EnoughError):
            exec(code, {"client": client, "print": enough})
        later.join()
    assert said == [(1, "defects in view"), ("stream.stalled",)]
