"""The page under load: how old its picture is, what painting costs, and whether its memory stays.

``python tests/benchmarks/dashboard.py [--seconds 20] [--fps 20] [--frame 512] [--marks 10000] [--messages 2000]
[--parts age,paint,memory] [--json]`` starts the service, a microscope and Debian's chromium with software
rendering, and prints

``age``
    age of the pictures when they were on the screen [ms], with the page's thread free, busy for 180 of each 200 ms, and
    slowed down six times by the browser's own throttle. The throttle slows the page's thread, not the worker's;
``paint``
    processor time of all threads of the page's process for one picture of 1280 × 800 with so many marks of 12 px [ms];
``memory``
    heaps of the page and of its worker after a collection [MB], bytes of the frames kept [MB] and memory of the process
    [MB], while messages come as fast as they are painted.

Frames are those of the tests of the page: sites and classes are known beforehand, so the pipeline takes no time from
the page, as on a machine with more cores. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

from _heap import course
from _stand_in import ws2

from conftest import ARGUMENTS, CHROMIUM, Rig

SIZE = {"width": 1280, "height": 800}
BUSY = "setInterval(() => { const end = performance.now() + 180; while (performance.now() < end); }, 200)"
SLOWER = 6
PAINTS = 200
PAINT = """async ([marks, paints]) => {
  const { Painter } = await import("./js/live/painter.js");
  const { Sites } = await import("./js/live/sites.js");
  const [width, height] = [1280, 800];
  const painter = new Painter(new OffscreenCanvas(width, height));
  painter.view.width = width;
  painter.view.height = height;
  painter.view.setFrame(height, width);
  painter.setLooks([{ class_id: 0, name: "V", role: "defect", colour: "#e69f00", shape: "circle" }]);
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const section = (data) => ({ shape: [data.length], data });
  const arrays = {
    image: { shape: [height, width], data: Uint8Array.from({ length: width * height }, () => 255 * random()) },
    positions: section(Float32Array.from({ length: 2 * marks }, (_, i) => (i % 2 ? width : height) * random())),
    class_id: section(new Int16Array(marks)), role: section(new Uint8Array(marks).fill(1)),
    track: section(new Int32Array(marks).fill(-1)), confidence: section(new Float32Array(marks).fill(1)),
  };
  const header = { image_scale: 1, image_origin: [0, 0], status: { lattice_constant_px: 17 }, shape: [height, width] };
  const frame = { header, arrays, sites: new Sites(arrays), nbytes: 0 };
  const took = [];
  for (let i = 0; i < paints; i++) {
    const began = performance.now();
    painter.paint(frame, { track: -1, trails: [] });
    took.push(performance.now() - began);
    if (i % 20 === 19) await new Promise((resolve) => setTimeout(resolve));
  }
  return took;
}"""


def number(page: Page, name: str) -> float:
    """What the page keeps for whoever measures it."""
    return float(page.get_attribute("#stage", f"data-{name}") or "nan")


@contextmanager
def opened(browser: Browser, rig: Rig) -> Iterator[Page]:
    """The page, once it shows a frame."""
    context = browser.new_context(viewport={"width": SIZE["width"], "height": SIZE["height"]})
    page = context.new_page()
    page.goto(rig.url)
    rig.microscope.send()
    page.wait_for_selector("#stage[data-frame]")
    yield page
    context.close()


def ages(browser: Browser, rig: Rig, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Age of the pictures at a steady rate of frames."""
    for case in ("free", "busy 180 of 200 ms", f"{SLOWER} times slower"):
        with opened(browser, rig) as page:
            if case.startswith("busy"):
                page.evaluate(BUSY)
            elif case != "free":
                page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
            n = round(arguments.seconds * arguments.fps)
            before, began = number(page, "got"), time.monotonic()
            for i in range(1, n + 1):
                rig.microscope.send()
                time.sleep(max(0.0, began + i / arguments.fps - time.monotonic()))
            took = time.monotonic() - began
            page.wait_for_timeout(1500)
            status = rig.get("/v1/status")
            yield {
                "page": case,
                "frames_per_s": round(n / took, 1),
                "pictures_per_s": round((number(page, "got") - before) / took, 1),
                "p50_ms": number(page, "age50-ms"),
                "p99_ms": number(page, "age99-ms"),
                "kB": round(number(page, "nbytes") / 1000),
                "dropped": sum(status["frames"]["dropped"].values()),
            }


def cpu_s(browser: Browser) -> float:
    """Processor time of the pages of a browser so far [s]."""
    info = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(one["cpuTime"] for one in info if one["type"] == "renderer")


def paint(browser: Browser, rig: Rig, arguments: argparse.Namespace) -> dict[str, Any]:
    """What one picture costs."""
    with opened(browser, rig) as page:
        page.evaluate(PAINT, [arguments.marks, 20])
        before = cpu_s(browser)
        took = page.evaluate(PAINT, [arguments.marks, PAINTS])
        spent = cpu_s(browser) - before
    return {
        "marks": arguments.marks,
        "cpu_ms": round(1000 * spent / PAINTS, 2),
        "median_ms": round(statistics.median(took), 2),
        "least_ms": round(min(took), 2),
    }


def memory(browser: Browser, rig: Rig, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What the page keeps, eight times on the way."""
    with opened(browser, rig) as page:
        marks = np.linspace(arguments.messages / 8, arguments.messages, 8).astype(int).tolist()
        yield from course(browser, page, rig, marks)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20, help="of frames for each age (default: 20)")
    parser.add_argument("--fps", type=float, default=20, help="frames sent per second (default: 20)")
    parser.add_argument("--frame", type=int, default=512, help="rows and columns of a frame (default: 512)")
    parser.add_argument(
        "--marks", type=int, default=10_000, help="in the picture that is painted (default: 10000)"
    )
    parser.add_argument("--messages", type=int, default=2000, help="while memory is watched (default: 2000)")
    parser.add_argument(
        "--parts", default="age,paint,memory", help="which to measure (default: age,paint,memory)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments = parser.parse_args()
    specimen = ws2(arguments.frame, np.random.default_rng(1))
    parts = arguments.parts.split(",")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        rig = Rig(Path(folder), specimen, {}, ingest={"stall_after_s": 600})
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        rig.microscope.send()
        for name, measured in (
            ("age", lambda: ages(browser, rig, arguments)),
            ("paint", lambda: iter([paint(browser, rig, arguments)])),
            ("memory", lambda: memory(browser, rig, arguments)),
        ):
            if name not in parts:
                continue
            found[name] = []
            for one in measured():
                found[name].append(one)
                if not arguments.json:
                    said = "  ".join(f"{key} {value}" for key, value in one.items())
                    sys.stdout.write(f"{name}  {said}\n")
                    sys.stdout.flush()
        browser.close()
        rig.stop()
        rig.microscope.close()
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
