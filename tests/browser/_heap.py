"""What the page and its worker keep, measured after a collection, while messages come as fast as they are painted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page

BURST = 20


class Heaps:
    """Heaps of a page and of its worker, through the browser's own debugger."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._session: CDPSession = page.context.new_cdp_session(page)
        self._answers: dict[int, Any] = {}
        self._worker: str | None = None
        self._n = 0
        self._session.on("Target.attachedToTarget", self._attached)
        self._session.on("Target.receivedMessageFromTarget", self._answered)
        # a worker has a session inside that of its page
        self._session.send(
            "Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False}
        )

    def _attached(self, event: Any) -> None:
        if event["targetInfo"]["type"] == "worker":
            self._worker = event["sessionId"]

    def _answered(self, event: Any) -> None:
        message = json.loads(event["message"])
        if "id" in message:
            self._answers[message["id"]] = message.get("result")

    def _ask_worker(self, method: str) -> Any:
        while self._worker is None:
            self._page.wait_for_timeout(10)
        self._n += 1
        message = json.dumps({"id": self._n, "method": method})
        self._session.send("Target.sendMessageToTarget", {"sessionId": self._worker, "message": message})
        while self._n not in self._answers:
            self._page.wait_for_timeout(5)
        return self._answers.pop(self._n)

    def measure(self) -> dict[str, float]:
        """Bytes in use after a collection [MB]."""
        for _ in range(2):
            self._session.send("HeapProfiler.collectGarbage")
            self._ask_worker("HeapProfiler.collectGarbage")
        page = self._session.send("Runtime.getHeapUsage")
        worker = self._ask_worker("Runtime.getHeapUsage")
        return {
            "page_mb": round(page["usedSize"] / 1e6, 2),
            "worker_mb": round(worker["usedSize"] / 1e6, 2),
        }


def resident_mb(browser: Browser) -> float:
    """Memory of the largest process of a page [MB]."""
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    pids = [one["id"] for one in found if one["type"] == "renderer"]
    status = [Path(f"/proc/{pid}/status").read_text(encoding="ascii") for pid in pids]
    sizes = [int(text.split("VmRSS:")[1].split()[0]) / 1000 for text in status if "VmRSS:" in text]
    return round(max(sizes), 1)


def course(browser: Browser, page: Page, rig: Any, marks: list[int]) -> Iterator[dict[str, float]]:
    """What is kept when so many messages were received."""
    heaps = Heaps(page)
    said = lambda name: float(page.get_attribute("#stage", f"data-{name}") or "nan")  # noqa: E731
    for mark in marks:
        while said("got") < mark:
            for _ in range(BURST):
                rig.microscope.send()
            page.wait_for_timeout(20)
        yield {
            "messages": said("got"),
            **heaps.measure(),
            "frames_kept_mb": round(said("ring") / 1e6, 1),
            "resident_mb": resident_mb(browser),
        }
