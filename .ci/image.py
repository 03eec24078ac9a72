"""The steps of the image without an engine: ``python .ci/image.py DIR`` follows docker/Dockerfile in DIR.

Every instruction is carried out as it stands, with /src, /opt and /var below DIR, and from USER on as that user: root
gives its rights up and may still read everything, since the Python of this machine may lie where nobody else looks.
What was made is started. What an engine does besides is not shown: base images, layers, networks, volumes.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[1]
PATHS = re.compile(r"(?<![\w./-])/(?=(?:src|opt|var)\b)")
PORT = re.compile(r"\b8765\b")
STARTS_S, ENDS_S = 60.0, 15.0
# What needs an account, done by number.
USERADD = """#!/bin/sh
while [ $# -gt 1 ]; do case $1 in --uid) uid=$2;; --home-dir) home=$2;; esac; shift; done
mkdir -p "$home"; echo "$uid" >"$0.uid"; echo "$home" >"$0.home"; [ "$(id -u)" != 0 ] || chown "$uid" "$home"
"""
INSTALL = """#!/bin/sh
for folder; do :; done
mkdir -p "$folder"; [ "$(id -u)" != 0 ] || chown "$(cat "${0%/*}/useradd.uid")" "$folder"
"""


class Image:
    """What the instructions have made so far."""

    def __init__(self, root: Path) -> None:
        self.root, self.cwd, self.user = root, root, 0
        self.port = _free_port()
        self.health: list[str] = []
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self._becomes: list[str] | None = None
        tools = root / "tools"
        tools.mkdir(parents=True)
        for name, text in (("useradd", USERADD), ("install", INSTALL)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        kept = {
            name: os.environ[name] for name in os.environ if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        self.environment = kept | {"PATH": f"{tools}:{os.environ['PATH']}"}

    def follow(self, word: str, rest: str) -> None:
        """Carry out an instruction."""
        here = PATHS.sub(f"{self.root}/", PORT.sub(str(self.port), rest))
        match word:
            case "FROM":
                self.cwd, self.user = self.root, 0
            case "WORKDIR":
                self.cwd = Path(here)
                self.cwd.mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(here.split())
            case "ENV":
                for name, value in re.findall(r"(\w+)=(\S+)", here):
                    value = value.replace("$PATH", self.environment["PATH"])
                    self.environment[name] = value
            case "USER":
                self.user = int(rest)
                self.environment["HOME"] = (self.root / "tools/useradd.home").read_text().strip()
            case "RUN":
                words = json.loads(here) if here.startswith("[") else ["sh", "-euc", here]
                done = self.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                expect(done.returncode == 0, f"{rest}\n{done.stdout}")
            case "HEALTHCHECK":
                self.health = json.loads(here[here.index("[") :])
            case "ENTRYPOINT":
                self.entrypoint = json.loads(here)
            case "CMD":
                self.command = json.loads(here)
            case "VOLUME" | "EXPOSE":
                pass
            case _:
                raise SystemExit(f"docker/Dockerfile: {word} is not known here")

    def run(self, words: list[str], **options: object) -> subprocess.CompletedProcess:
        """Run a command as the user of this moment."""
        return subprocess.run(self._as_user(words), cwd=self.cwd, env=self.environment, **options)  # type: ignore[call-overload]

    def start(self, words: list[str]) -> subprocess.Popen:
        """Start a command as the user of this moment."""
        return subprocess.Popen(self._as_user(words), cwd=self.cwd, env=self.environment)

    def _as_user(self, words: list[str]) -> list[str]:
        if os.getuid() or not self.user:
            return words
        if self._becomes is None:
            self._becomes = self._becoming()
        return [*self._becomes, *words]

    def _becoming(self) -> list[str]:
        """How root becomes the user of the image here; not every container lets it keep the right to read."""
        other = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        python = str(self.root / "opt/latticewatch/bin/python")
        for becomes in ([*other, *reading], other) if shutil.which("setpriv") else ():
            if not subprocess.run([*becomes, python, "-c", ""], capture_output=True).returncode:
                return becomes
        sys.stdout.write("this root can become nobody else: what follows is run as root\n")
        return []

    def _copy(self, words: list[str]) -> None:
        if words[0].startswith("--from="):
            return  # both stages are in one place here
        *sources, to = words
        for source in sources:
            path, target = PROJECT / source, self.cwd / to
            if path.is_dir():
                shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, target)


def main(root: Path) -> None:
    """Follow the instructions, and see that the result runs, as nobody special, and writes where it may alone."""
    image = Image(root)
    root.chmod(0o755)
    text = (PROJECT / "docker/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word and word != "#":
            began = time.monotonic()
            image.follow(word, rest.strip())
            if word == "RUN":
                sys.stdout.write(f"{time.monotonic() - began:5.1f} s  {rest.strip()[:90]}\n")
                sys.stdout.flush()
    made = root / "made"
    made.touch()
    refused = image.run([*image.entrypoint, *image.command], capture_output=True, text=True)
    expect(refused.returncode == 2 and "key" in refused.stderr, f"without a key it refuses: {refused.stderr}")
    image.environment["LATTICEWATCH_SERVE__CONTROL_KEY"] = secrets.token_hex(32)
    service, began = image.start([*image.entrypoint, *image.command]), time.monotonic()
    try:
        while image.run(image.health, stderr=subprocess.DEVNULL).returncode:
            expect(service.poll() is None, "the service runs")
            expect(time.monotonic() - began < STARTS_S, f"the health check passes within {STARTS_S:g} s")
            time.sleep(0.2)
        sys.stdout.write(f"{time.monotonic() - began:5.1f} s  until the health check passes\n")
    finally:
        service.terminate()
        code = service.wait(ENDS_S)
    expect(code == 0, f"the service ends when it is told to: {code}")
    del image.environment["LATTICEWATCH_SERVE__CONTROL_KEY"]
    cluster = yaml.safe_load((PROJECT / "docker/compose.scale.yaml").read_text(encoding="utf-8"))
    for words in (one["entrypoint"][:2] for one in cluster["services"].values() if "entrypoint" in one):
        found = image.run([*words, "--help"], stdout=subprocess.DEVNULL).returncode == 0
        expect(found, f"the image has what the cluster runs: {' '.join(words)}")
    demo = ["demo", "--frames", "20", "--size", "384", "--http", f"127.0.0.1:{image.port}"]
    expect(image.run([*image.entrypoint, *demo]).returncode == 0, "the demo finds its defects")
    written = subprocess.run(["find", root, "-newer", made, "-not", "-path", f"{root}/var/*", "-type", "f"],
                             capture_output=True, text=True, check=True).stdout  # fmt: skip
    expect(not written, f"nothing is written outside of the volumes: {written}")


def expect(true: bool, claim: str) -> None:
    """End with what does not hold."""
    if not true:
        raise SystemExit(f"docker/Dockerfile: not so: {claim}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
