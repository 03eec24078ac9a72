"""A browser, and the real service with a microscope and a learner that the test plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from _stand_in import Microscope, ScriptedLearner, Specimen, ws2
from playwright.sync_api import Browser, Page, expect, sync_playwright

from latticewatch.config import Settings
from latticewatch.execute import Engine
from latticewatch.serve import Service

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FRAME_PX = 384

expect.set_options(timeout=10_000)


# Not for the whole run: while playwright is open, its event loop counts as running in the tests of other folders too.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium; skips where it is absent."""
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: install Debian's chromium to test the page")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


class Tab:
    """A page with everything it complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, kind: str, text: str) -> None:
        # The tests read pixels back, which the browser advises against; the page does not.
        if kind in ("error", "warning") and "willReadFrequently" not in text:
            self.complaints.append(text)

    def said(self, name: str) -> float:
        """A number that the page keeps for whoever measures it: ``asked``, ``got``, ``nbytes``, ``paint-ms``."""
        return float(self.page.get_attribute("#stage", f"data-{name}") or "nan")


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Open the page; at the end it must not have complained of anything but what the test expects."""
    opened: list[tuple[Tab, tuple[str, ...]]] = []

    def open_tab(
        url: str,
        width: int = 1280,
        height: int = 800,
        tolerate: tuple[str, ...] = (),
        ratio: float = 1,
        before: str = "",
    ) -> Tab:
        """``ratio``: device pixels to one of the page; ``before``: a script that runs before the page's own."""
        context = browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", device_scale_factor=ratio
        )
        context.add_init_script(before)
        tab = Tab(context.new_page())
        opened.append((tab, tolerate))
        tab.page.goto(url)
        return tab

    yield open_tab
    for tab, tolerate in opened:
        tab.page.context.close()
        unexpected = [text for text in tab.complaints if not any(word in text for word in tolerate)]
        assert not unexpected, unexpected


@pytest.fixture(scope="module")
def modules(browser: Browser, shown: Rig) -> Iterator[Page]:
    """One page for all tests that only call functions of its modules, and leave it as it was."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(shown.url)
    yield page
    context.close()


class Rig:
    """The service under test, the microscope before it and a client behind it."""

    def __init__(self, folder: Path, specimen: Specimen, learner: dict[str, Any], **settings: Any) -> None:
        self._folder = folder
        self._learner = learner
        self._settings = settings
        self.specimen = specimen
        self.microscope = Microscope(specimen)
        self.service: Service | None = None
        self.url = self.start("127.0.0.1:0")

    def start(self, http: str) -> str:
        sources = (self.microscope.endpoint,)
        source = {"sources": sources, "socket": "pull", "mode": "lossless"}
        settings = Settings.model_validate(
            {
                "serve": {"http": http, **self._settings.get("serve", {})},
                "ingest": source | self._settings.get("ingest", {}),
                "record": {"data_dir": self._folder},
            }
        )
        learner = ScriptedLearner(self.specimen, **self._learner)
        self.service = Service(settings, Engine(settings, learner=learner, analyse=lambda frame, *_: frame))
        self.service.start()
        return self.service.url

    def stop(self) -> None:
        if self.service is not None:
            self.service.stop()
            self.service = None

    def restart(self) -> None:
        """Come back on the same port, with the same event log."""
        self.stop()
        self.start(self.url.removeprefix("http://"))

    def get(self, path: str) -> Any:
        """What the API says."""
        return httpx.get(self.url + path, timeout=10).raise_for_status().json()

    def rename(self, class_id: int, name: str) -> None:
        """Change a name as another client does."""
        httpx.patch(f"{self.url}/v1/classes/{class_id}", json={"name": name}, timeout=10).raise_for_status()


@pytest.fixture(scope="session")
def specimen() -> Specimen:
    return ws2(FRAME_PX, np.random.default_rng(1))


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory, specimen: Specimen) -> Iterator[Rig]:
    """A service that shows its first frame, for tests that only look."""
    rig = Rig(tmp_path_factory.mktemp("shown"), specimen, {}, ingest={"stall_after_s": 600})
    rig.microscope.send()
    yield rig
    rig.stop()
    rig.microscope.close()


@pytest.fixture
def make_rig(tmp_path: Path, specimen: Specimen) -> Iterator[Callable[..., Rig]]:
    """Start a service; keyword arguments of the learner, ``serve`` and ``ingest`` settings."""
    rigs: list[Rig] = []

    def make_rig(
        serve: dict[str, Any] | None = None,
        ingest: dict[str, Any] | None = None,
        **learner: Any,
    ) -> Rig:
        folder = tmp_path / str(len(rigs))
        rig = Rig(folder, specimen, learner, serve=serve or {}, ingest=ingest or {})
        rigs.append(rig)
        return rig

    yield make_rig
    for rig in rigs:
        rig.stop()
        rig.microscope.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    """The same for one test, which may change what it likes."""
    rig = make_rig()
    rig.microscope.send()
    return rig
