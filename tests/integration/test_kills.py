"""The service killed again and again while a client follows: each event once, in order."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import uuid

import pytest

from latticewatch_client import Client, ServiceError

SERVE = (sys.executable, "-c", "from latticewatch.cli import main; main()", "serve")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [50])
def test_a_client_that_follows_over_kills_has_each_event_once_and_in_order(tmp_path, kills):
    rng = random.Random(50)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    url = f"http://{address}"
    command = [*SERVE, "--source", f"ipc://{tmp_path}/frames", "--http", address]
    environment = {"LATTICEWATCH_RECORD__DATA_DIR": str(tmp_path / "data")}
    acknowledged, seen, ended, written = {}, [], threading.Event(), threading.Event()

    def follow():
        with Client(url) as client:
            for event in client.events():
                seen.append(event)
                if event.data.get("detail") == "the end":
                    return

    def write():
        # Each is sent until it is acknowledged, by the same key: the log takes it once.
        with Client(url, retries=0, timeout=5) as client:
            while not ended.is_set():
                key = uuid.uuid4().hex
                while not ended.is_set():
                    try:
                        told = client.annotate("log/1", "writer", "note", key=key)
                    except ServiceError:
                        ended.wait(0.02)
                    else:
                        acknowledged[told.seq] = key
                        written.set()
                        break

    def start():
        return subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    threads = [threading.Thread(target=follow, daemon=True), threading.Thread(target=write, daemon=True)]
    process = start()
    try:
        for thread in threads:
            thread.start()
        for _ in range(kills):
            written.clear()
            assert written.wait(120), "the service has come back and takes what is written"
            ended.wait(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start()
        written.clear()
        assert written.wait(120)
        ended.set()
        threads[1].join(20)
        with Client(url) as client:
            client.annotate("log/1", "writer", "note", "the end")
            last = client.status().last_seq
        threads[0].join(60)
        assert not threads[0].is_alive()
    finally:
        ended.set()
        process.kill()
        process.wait()
    assert [event.seq for event in seen] == list(range(1, last + 1))
    assert len({event.id for event in seen}) == len(seen)
    assert {event.stream for event in seen} == {seen[0].stream}
    keys = [event.data.get("key") for event in seen]
    assert all(keys[seq - 1] == key for seq, key in acknowledged.items())
    assert len(set(keys[:-1])) == len(keys) - 1, "what was sent again is in the log once"
    assert len(acknowledged) > kills
    sys.stdout.write(f"{kills} kills, {last} events, {len(acknowledged)} acknowledged\n")
