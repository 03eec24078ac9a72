"""Take the pictures of the page for README and guide, or one of every state that it can be in.

``python docs/make_screenshots.py [--out docs/images]`` starts simulator, service and Debian's chromium, and writes
``dashboard.png`` and those of ``docs/how-to/read-the-dashboard.md``. ``--states DIR`` plays every state of
``tests/browser/test_states.py`` instead, and writes each of them dark and light, on a laptop, a phone and a wall, to be
looked at. It needs the extras ``service``, ``simulator`` and ``test``.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests" / "browser"))

import _states  # noqa: E402
from _stand_in import ws2  # noqa: E402

from conftest import ARGUMENTS, CHROMIUM, FRAME_PX, Rig  # noqa: E402
from latticewatch.config import Settings  # noqa: E402
from latticewatch.pipeline import warm  # noqa: E402
from latticewatch.serve import Service  # noqa: E402
from latticewatch_simulator import Simulation, SimulatorSettings  # noqa: E402

# name, width and height [px], what is behind the address
SCREENS = (
    ("1440x900", 1440, 900, "/#theme=dark"),
    ("1280x800", 1280, 800, "/#theme=dark"),
    ("light", 1440, 900, "/#theme=light"),
    ("phone", 390, 844, "/#theme=dark"),
    ("phone-light", 390, 844, "/#theme=light"),
    ("wall", 1920, 1080, "/?wall#theme=dark"),
    ("wall-light", 1920, 1080, "/?wall#theme=light"),
)
LARGEST_FILE = 1_000_000
SIMULATED: dict[str, Any] = {
    "material": "WS2",
    "shape": (640, 640),
    "pixel_size_nm": 0.018,
    "dose_e_per_a2": 1e5,
    "drift_nm_per_frame": (0.002, -0.003),
    "contamination": 0.25,
    "births_per_frame": 0.15,
    "fps": 1.5,
    "seed": 5,
}
FRAMES = 150
FIRST_SHOWN = 45
PATIENCE_MS = 120_000


@contextmanager
def opened(browser: Browser, url: str, width: int, height: int, ratio: float = 1) -> Iterator[Page]:
    """A page of a size; nothing in it moves of itself."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="reduce", device_scale_factor=ratio
    )
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def shoot(page: Page, path: Path, whole: bool = False) -> None:
    """Write what is on the screen, or the whole page, in few enough colours for the file to stay small."""
    if whole:
        # a page that becomes longer only while it is taken has no time to draw its charts anew
        tall = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": page.viewport_size["width"], "height": tall})  # type: ignore[index]
        page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colours in (None, 255, 192, 128, 96):
        shown = picture
        if colours is not None:
            shown = picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        shown.save(path, optimize=True)
        if path.stat().st_size < LARGEST_FILE:
            return


def states(browser: Browser, out: Path, only: list[str]) -> None:
    """Every state on every screen."""
    specimen = ws2(FRAME_PX, np.random.default_rng(1))
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (arrange, act)) in enumerate(scenes().items()):
            if only and name not in only:
                continue
            rigs: list[Rig] = []

            def make(
                serve: Any = None, ingest: Any = None, others: Any = (), at: int = number, **learner: Any
            ) -> Rig:
                place = Path(folder) / f"{at}-{len(rigs)}"  # noqa: B023 - used before the next turn
                rig = Rig(place, specimen, learner, serve=serve or {}, ingest=ingest or {}, others=others)
                rigs.append(rig)  # noqa: B023
                return rig

            rig = arrange(make)
            for screen, width, height, behind in SCREENS:
                if rig.service is None:
                    rig.restart()
                    rig.microscope.send()
                with opened(browser, rig.url + behind, width, height) as page:
                    page.wait_for_timeout(900)
                    act(page, rig)
                    page.wait_for_timeout(900)
                    shoot(page, out / f"{name.replace(' ', '-')}.{screen}.png", whole="phone" in screen)
            for rig in rigs:
                rig.stop()
                rig.microscope.close()


def pictures(browser: Browser, out: Path) -> None:
    """The page at work: a simulated microscope, the service with its own pipeline, half a minute of frames."""
    simulation = Simulation(
        SimulatorSettings.checked(**SIMULATED),
        bind="tcp://127.0.0.1:0",
        control=None,
        push=True,
        frames=FRAMES,
    )
    with tempfile.TemporaryDirectory() as folder, simulation:
        settings = Settings.model_validate(
            {
                "ingest": {
                    "sources": (simulation.endpoint,),
                    "socket": "pull",
                    "mode": "lossless",
                    "dose_e_per_a2": SIMULATED["dose_e_per_a2"],
                },
                "analysis": {"learning_frames": 5},
                "serve": {"http": "127.0.0.1:0"},
                "record": {"data_dir": Path(folder)},
            }
        )
        warm(settings.analysis)
        with Service(settings) as service:
            simulation.start()
            live_pictures(browser, service.url, out)
            simulation.stop()
            with opened(browser, f"{service.url}/#theme=dark", 1440, 900) as page:
                page.wait_for_selector("#stale:not([hidden])", timeout=PATIENCE_MS)
                page.wait_for_timeout(1500)
                shoot(page, out / "dashboard-ended.png")


def live_pictures(browser: Browser, url: str, out: Path) -> None:
    """Those for which frames have to come."""
    with opened(browser, f"{url}/#theme=dark", 1600, 1000) as page:
        page.wait_for_selector(".class-card", timeout=PATIENCE_MS)
        while int(page.get_attribute("#stage", "data-frame") or 0) < FIRST_SHOWN:
            page.wait_for_timeout(500)
        choose_newest(page)
        page.wait_for_timeout(3000)
        shoot(page, out / "dashboard.png")
        page.locator("#theme").click()
        page.wait_for_timeout(1500)
        shoot(page, out / "dashboard-light.png")
    for name, width, height, behind, ratio in (
        ("dashboard-wall", 1600, 900, "/?wall#theme=dark", 1.0),
        ("dashboard-phone", 390, 844, "/#theme=dark", 1.5),
    ):
        with opened(browser, url + behind, width, height, ratio) as page:
            page.wait_for_selector(".class-card", timeout=PATIENCE_MS)
            page.wait_for_timeout(4000)
            shoot(page, out / f"{name}.png", whole=width < 500)


def choose_newest(page: Page) -> None:
    """The newest defect that was born: its event leads to it."""
    born = page.locator('[data-kind="defect.appeared"][data-coming="appeared"] button')
    (born if born.count() else page.locator('[data-kind="defect.appeared"] button')).first.click()
    page.locator("#zoom-fit").click()
    page.mouse.move(2, 2)


Scene = tuple[Callable[[Callable[..., Rig]], Rig], Callable[[Page, Rig], object]]


def scenes() -> dict[str, Scene]:
    """What is shown, beside the states of the tests: keys, a chosen site, menus, and a service that went away."""
    found: dict[str, Scene] = {
        name: (arrange, lambda *_: None) for name, (arrange, *_) in _states.STATES.items()
    }
    found["401"] = (_states.with_keys, lambda *_: None)
    found["403"] = (_states.with_keys, forbidden)
    found["read key"] = (_states.with_keys, use_read_key)
    found["offline"] = (_states.live, lose)
    found["site"] = (several, choose_site)
    found["paused"] = (several, lambda page, _: page.keyboard.press(","))
    found["contrast"] = (several, lambda page, _: page.evaluate("contrast.open = true"))
    found["help"] = (several, lambda page, _: page.keyboard.press("?"))
    found["regions"] = (_states.regions, lambda *_: None)
    return found


def several(make: Callable[..., Rig]) -> Rig:
    """Some frames of a specimen that drifts, a little apart in time."""
    rig = make(drift_px=(0.6, -0.4), displaced=True, ingest={"stall_after_s": 600})
    for _ in range(12):
        rig.microscope.send()
        time.sleep(0.15)
    return rig


def use_read_key(page: Page, _: Rig) -> None:
    """Read with a key that may only read."""
    page.locator("#key-field").fill("read-me")
    page.get_by_role("button", name="Use this key").click()


def forbidden(page: Page, rig: Rig) -> None:
    """Ask for what the key may not do."""
    use_read_key(page, rig)
    page.wait_for_timeout(500)
    page.evaluate("""() => { import("./js/access.js")
      .then(({ patchJson }) => patchJson("v1/classes/2", { name: "taken" })).catch(() => {}); }""")


def choose_site(page: Page, _: Rig) -> None:
    """The first defect in reading order, and its class."""
    page.locator("#markers").focus()
    page.keyboard.press("n")


def lose(page: Page, rig: Rig) -> None:
    """Make the page lose its service."""
    rig.stop()
    page.wait_for_timeout(1500)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "images", help="default: docs/images")
    parser.add_argument("--states", type=Path, help="write every state here instead")
    parser.add_argument("--only", default="", help="of the states, with commas")
    arguments = parser.parse_args()
    out = arguments.states or arguments.out
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        if arguments.states:
            states(browser, out, [name for name in arguments.only.split(",") if name])
        else:
            pictures(browser, out)
        browser.close()


if __name__ == "__main__":
    main()
