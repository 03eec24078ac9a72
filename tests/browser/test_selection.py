"""One site and one moment, everywhere on the page: what is chosen or pointed at in one panel is in the others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _canvas import on_screen, pixels, wait_for_frame, wait_until
from _stand_in import PIXEL_SIZE_NM, SHIFT_PX
from playwright.sync_api import Page, expect

from latticewatch_dashboard import static_path

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

# What is no sentence: fonts, lists of elements, and what only a programmer reads.
NO_SENTENCE = (
    "Segoe UI",
    "Liberation Sans",
    "button, ",
    "input, ",
    "no element",
    "live message",
    "service answered",
)


# What the worker tells of the place of an event comes while the page is busy, and is read after the view has changed.
LEAVE_AT_ONCE = """() => {
  document.querySelector('[data-kind="defect.appeared"] button').click();
  const end = performance.now() + 500;
  while (performance.now() < end);
  document.getElementById("zoom-fit").click();
}"""


def click_on(page: Page, rig: Any, site: int) -> None:
    points, _ = on_screen(page, rig.specimen.position[[site]], len(rig.specimen.scene))
    page.locator("#markers").click(position={"x": float(points[0, 0]), "y": float(points[0, 1])})


def all_events_are_listed(page: Page, rig: Any) -> None:
    """Rows do not move any more."""
    n = sum(one["type"] == "defect.appeared" for one in rig.get("/v1/events?after=0&limit=1000")["events"])
    expect(page.locator('[data-kind="defect.appeared"]')).to_have_count(n)


def chart_holds(page: Page, rig: Any) -> None:
    """The chart is drawn with the newest frame: its times do not move any more."""
    newest = rig.get("/v1/history")["end"][-1]
    wait_until(page, f"Number(document.getElementById('counts-chart').dataset.until) >= {newest - 1e-3}")


def test_a_site_shows_how_probable_each_class_is_and_how_far_it_stands_aside(make_rig, open_tab):
    rig = make_rig(displaced=True, ingest={"stall_after_s": 600})
    rig.microscope.send()
    page = open_tab(rig.url, 1440, 900).page
    wait_for_frame(page, 1)
    click_on(page, rig, int(np.flatnonzero(rig.specimen.class_id == 4)[0]))
    bars = page.locator("#site-bars .bar-name")
    # of the newest frame, though no other comes: it is asked for again
    expect(bars).to_have_text(["Fe on W", "S1", "unknown", "all others"])
    expect(page.locator("#site-bars > :nth-child(3n)")).to_have_text(["80.0 %", "15.0 %", "3.0 %", "2.0 %"])
    widths = page.locator("#site-bars i").evaluate_all(
        "(bars) => bars.map((bar) => bar.getBoundingClientRect().width / bar.parentElement.clientWidth)"
    )
    assert widths == pytest.approx([0.8, 0.15, 0.03, 0.02], abs=0.02)
    row, column, error = (1000 * PIXEL_SIZE_NM * px for px in SHIFT_PX)
    said = page.inner_text("#site-shift")
    length, told, angle = (float(number) for number in re.findall(r"[\d.]+", said)[:3])
    assert (length, told) == (round(np.hypot(row, column)), round(error))
    assert angle == round(np.degrees(np.arctan2(-row, column)))
    assert "above x" in said
    click_on(page, rig, int(np.flatnonzero(rig.specimen.class_id == 5)[0]))
    expect(page.locator("#site-shift")).to_be_hidden()
    expect(page.locator("#site-confidence")).to_have_text(re.compile("9.* %"))


def test_what_is_not_analysed_is_hatched_and_can_be_shown_bare(make_rig, open_tab):
    rig = make_rig(regions=True, ingest={"stall_after_s": 600})
    rig.microscope.send()
    page = open_tab(rig.url, 1440, 900).page
    wait_for_frame(page, 1)
    button = page.locator("#show-regions")
    expect(button).to_contain_text(re.compile(r"not analysed 1\d\.\d %"))
    expect(button).to_have_attribute("title", re.compile(r"no specimen .* %, dirt .* %"))
    size = len(rig.specimen.scene)
    inside = np.array([[0.4, 0.6], [0.37, 0.63], [0.43, 0.57]]) * size
    beside = np.array([[0.1, 0.1], [0.7, 0.4]]) * size

    def colourful(places: Any) -> Any:
        points, _ = on_screen(page, places, size)
        return np.ptp(pixels(page, "picture", points)[:, :3], axis=1)

    assert colourful(inside).min() > 20
    assert colourful(beside).max() == 0
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    bare, _ = on_screen(page, inside, size)
    phone = open_tab(rig.url, 390, 844)
    wait_for_frame(phone.page, 1)
    box = phone.page.locator("#stage").bounding_box()
    assert box is not None
    assert 0 < phone.said("nbytes") <= 1.2 * box["width"] * box["height"]
    painted = f"({_PIXELS})({bare.tolist()}).every(([r, g, b]) => r === g && g === b)"
    wait_until(page, painted)


_PIXELS = """(points) => {
  const canvas = document.getElementById("picture");
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  return points.map(([x, y]) => [...context.getImageData(Math.round(x), Math.round(y), 1, 1).data]);
}"""


def test_a_frame_without_regions_has_no_button_for_them(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    expect(page.locator("#show-regions")).to_be_hidden()


def test_an_event_that_is_pointed_at_is_marked_in_the_chart_and_in_the_frame(rig, open_tab):
    page = open_tab(rig.url, 1440, 900).page
    wait_for_frame(page, 1)
    rig.microscope.send()
    wait_for_frame(page, 2)
    all_events_are_listed(page, rig)
    chart_holds(page, rig)
    line, cross = page.locator("#counts-chart .cross"), page.locator("#crosshair")
    expect(page.locator("#counts-chart canvas")).to_have_count(1)
    expect(line).to_be_hidden()
    row = page.locator('[data-kind="defect.appeared"]').first
    track = int(re.findall(r"track (\d+)", row.inner_text())[0])
    row.hover()
    expect(line).to_be_visible()
    expect(cross).to_be_visible()
    points, _ = on_screen(page, rig.specimen.position[[track]], len(rig.specimen.scene))
    at = [
        float(cross.evaluate(f"(box) => parseFloat(box.style.getPropertyValue('--{axis}'))")) for axis in "xy"
    ]
    assert at == pytest.approx(points[0].tolist(), abs=1)
    page.mouse.move(2, 2)
    expect(line).to_be_hidden()
    expect(cross).to_be_hidden()


def test_a_site_and_a_moment_that_are_pointed_at_light_up_their_events(rig, open_tab):
    page = open_tab(rig.url, 1440, 900).page
    wait_for_frame(page, 1)
    rig.microscope.send()
    wait_for_frame(page, 2)
    expect(page.locator("#counts-chart canvas")).to_have_count(1)
    all_events_are_listed(page, rig)
    chart_holds(page, rig)
    lit = page.locator("#events .lit")
    track = int(np.flatnonzero(rig.specimen.class_id == 5)[0])
    points, _ = on_screen(page, rig.specimen.position[[track]], len(rig.specimen.scene))
    page.locator("#markers").hover(position={"x": float(points[0, 0]), "y": float(points[0, 1])})
    expect(lit).to_have_count(1)
    expect(lit).to_contain_text(f"track {track}")
    expect(page.locator("#counts-chart .cross")).to_be_visible()
    left = float(page.locator("#counts-chart .cross").evaluate("(line) => parseFloat(line.style.left)"))
    page.locator("#counts-chart").hover(position={"x": left + 1, "y": 30})
    expect(page.locator(".chart-tip")).to_be_visible()
    expect(page.locator(".chart-tip")).to_contain_text("Te+S 2")
    wait_until(page, "document.querySelectorAll('#events .lit').length > 1")
    page.mouse.move(2, 2)
    expect(lit).to_have_count(0)
    expect(page.locator(".chart-tip")).to_be_hidden()


def test_a_view_that_was_left_does_not_come_back_with_a_late_message(make_rig, open_tab):
    rig = make_rig(drift_px=(0.5, 0.2), ingest={"stall_after_s": 600})
    rig.microscope.send()
    page = open_tab(rig.url, 1440, 900).page
    wait_for_frame(page, 1)
    all_events_are_listed(page, rig)
    whole = page.inner_text("#scale-text")
    page.evaluate(LEAVE_AT_ONCE)
    for number in range(2, 5):
        rig.microscope.send()
        wait_for_frame(page, number)
    expect(page.locator("#scale-text")).to_have_text(whole)
    expect(page.locator("#minimap")).to_be_hidden()


def test_drift_lies_beneath_the_counts_over_the_same_time(make_rig, open_tab):
    rig = make_rig(drift_px=(3.0, -2.0), ingest={"stall_after_s": 600})
    rig.microscope.send()
    page = open_tab(rig.url, 1440, 900).page
    for number in range(1, 9):
        wait_for_frame(page, number)
        rig.microscope.send()
    wait_for_frame(page, 9)
    strip = page.locator("#strip canvas")
    expect(strip).to_be_visible()
    past = rig.get("/v1/history")
    assert past["drift_nm"]["y"][-1] == pytest.approx(8 * 3.0 * PIXEL_SIZE_NM, rel=1e-5)
    assert past["drift_nm"]["x"][-1] == pytest.approx(-8 * 2.0 * PIXEL_SIZE_NM, rel=1e-5)
    one, other = page.locator("#counts-chart canvas").bounding_box(), strip.bounding_box()
    assert one is not None
    assert other is not None
    assert (one["x"], one["width"]) == (other["x"], other["width"])
    strip.hover(position={"x": one["width"] - 80, "y": 10})
    expect(page.locator("#counts-chart .cross")).to_be_visible()
    expect(page.locator("#strip .cross")).to_be_visible()


def test_a_point_of_the_embedding_chooses_its_class(shown, open_tab):
    page = open_tab(shown.url, 1440, 900).page
    wait_for_frame(page, 1)
    expect(page.locator("#embedding-size")).to_contain_text("sites")
    found = page.evaluate("""async () => {
      const { EmbeddingPlot } = await import("./js/embedding-plot.js");
      const canvas = document.createElement("canvas");
      canvas.style.cssText = "position: fixed; left: 0; top: 0; width: 200px; height: 200px; z-index: 99";
      document.body.append(canvas);
      const picked = [];
      const plot = new EmbeddingPlot(canvas, { lassoed: () => {}, picked: (...one) => picked.push(one) });
      plot.setPoints(Float32Array.of(0, 0, 1, 1, 1, 0), Int16Array.of(4, 5, 6));
      plot.setSites(Float32Array.of(0.5, 0.5), Int16Array.of(7), Int32Array.of(42));
      plot.draw();
      for (const [x, y] of [[14, 186], [100, 100], [186, 14], [60, 20]]) {
        for (const type of ["pointerdown", "pointerup"]) {
          canvas.setPointerCapture = () => {};
          canvas.dispatchEvent(new PointerEvent(type, { clientX: x, clientY: y, pointerId: 1 }));
        }
      }
      canvas.remove();
      return picked;
    }""")
    assert found == [[4, -1], [7, 42], [5, -1]]


def test_what_the_scripts_say_is_in_one_file():
    literal = re.compile(r'"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`')
    found = []
    for path in sorted((static_path() / "js").rglob("*.js")):
        if path.name == "words.js":
            continue
        code = re.sub(r"/\*.*?\*/", "", Path(path).read_text(encoding="utf-8"), flags=re.DOTALL)
        code = re.sub(r"(?m)(^|\s)//.*$", "", code)
        for text in literal.findall(code):
            bare = re.sub(r"\$\{[^}]*\}", " ", text)
            if re.search(r"[A-Za-z]{2,}[,.:;]? [A-Za-z(]", bare) and not any(
                one in text for one in NO_SENTENCE
            ):
                found.append(f"{path.name}: {text}")
    assert found == []
