"""A process that analyses frames for the one that started it, and ends with it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import OrderedDict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from latticewatch.execute._common import CommonMemory, behind

# Versions of the model that frames under way may still need.
VERSIONS_KEPT = 4
# Its arguments are the numbers of the connection and of the memory.
COMMAND = (sys.executable, "-P", "-c", "from latticewatch.execute._analyser import main; main()")


def main() -> None:
    """Analyse frames until nobody asks any more."""
    # Ctrl-C goes to all processes of a terminal: the one that asks decides when it is enough
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, memory = (int(argument) for argument in sys.argv[1:3])
    with Connection(connection) as asked:
        try:
            _answer(asked, CommonMemory(memory))
        except (EOFError, OSError):
            # it has ended
            os._exit(0)


def _answer(asked: Connection, memory: CommonMemory) -> None:
    from threadpoolctl import threadpool_limits

    from latticewatch.config import AnalysisSettings
    from latticewatch.execute._carried import keep_freed_memory, lightened
    from latticewatch.ingest import Frame
    from latticewatch.parallel import working
    from latticewatch.pipeline import analyse, warm
    from latticewatch.pipeline._carrier import carrier

    settings = AnalysisSettings.model_validate_json(asked.recv_bytes())
    keep_freed_memory()
    warm(settings)
    models: OrderedDict[int, Any] = OrderedDict()
    held: dict[int, Any] = {}
    with threadpool_limits(limits=1, user_api="blas"):
        asked.send_bytes(b"ready")
        while True:
            task = json.loads(asked.recv_bytes())
            memory.follow(task["size"])
            if "n_text" in task:
                for number in task["gone"]:
                    held.pop(number, None)
                there = memory.part(*task["model_at"])
                models[task["model"]] = carrier.value_of(there, task["n_text"], held)
                while len(models) > VERSIONS_KEPT:
                    models.popitem(last=False)
            dtype, shape = np.dtype(task["dtype"]), tuple(task["shape"])
            n = dtype.itemsize * int(np.prod(shape))
            image = memory.array(0, n).view(dtype).reshape(shape)
            image.flags.writeable = False
            try:
                with working(task["busy"]):
                    analysis = analyse(Frame(image), models.get(task["model"]), settings)
                parts, n_text = carrier.parts(lightened(analysis, picture=True))
            except Exception as error:  # noqa: BLE001 - belongs to the one that waits for it
                asked.send_bytes(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
                continue
            answer = {
                "at": (behind(n), memory.put(behind(n), parts)),
                "n_text": n_text,
                "size": memory.size,
            }
            asked.send_bytes(json.dumps(answer).encode())
