"""The page in a real browser, against the real service: what it shows is what the service says."""

from __future__ import annotations

import re

import httpx
import numpy as np
import pytest
from _canvas import (
    ALL_LOADED,
    CANVAS,
    marks_painted,
    on_screen,
    outline,
    pixels,
    ring_radius,
    wait_for_frame,
    wait_until,
)
from _stand_in import SPACING_PX
from playwright.sync_api import expect

from latticewatch_dashboard import static_path

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

LOADED = (".html", ".css", ".js", ".svg")


def test_columns_are_bright_where_they_are(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    metal = shown.specimen.position[shown.specimen.class_id == 0]
    points, scale = on_screen(page, metal, len(shown.specimen.scene))
    at_columns = pixels(page, "picture", points)[:, 0]
    # The middle of a hexagon of the honeycomb is empty: opposite to the other sublattice.
    other = shown.specimen.position[shown.specimen.class_id == 1]
    offset = other[np.argmin(np.linalg.norm(other - metal[5], axis=1))] - metal[5]
    between = pixels(page, "picture", points - offset[::-1] * scale)[:, 0]
    assert np.median(at_columns) > 150
    assert np.median(between) < 70


def test_markers_have_the_colour_and_shape_of_their_class(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    classes = {one["class_id"]: one for one in shown.get("/v1/classes")}
    tracks = shown.get("/v1/tracks")["tracks"]
    defects = [one for one in tracks if one["role"] == "defect"]
    assert len(defects) >= 6
    position = np.array([[one["px"]["row"], one["px"]["col"]] for one in defects])
    points, scale = on_screen(page, position, len(shown.specimen.scene))
    looks = [classes[one["class_id"]] for one in defects]
    colours, shapes = [one["colour"] for one in looks], [one["shape"] for one in looks]
    painted = marks_painted(page, points, ring_radius(SPACING_PX, scale), colours, shapes)
    assert painted.min() > 0.8, defects[int(painted.argmin())]


def test_counts_shown_are_those_of_the_api(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    counts = shown.get("/v1/counts")
    assert counts["by_role"]["defect"] > 0
    for one in counts["by_class"]:
        expect(page.locator(f'[data-count="{one["class_id"]}"]')).to_have_text(f"{one['n']:,}")
    for role, n in counts["by_role"].items():
        expect(page.locator(f"#count-{role}")).to_have_text(f"{n:,}")


def test_every_class_has_its_average_patch(shown, open_tab):
    page = open_tab(shown.url).page
    patches = page.locator(".class-card img.patch")
    expect(patches).to_have_count(len(shown.get("/v1/classes")))
    wait_until(page, ALL_LOADED)


def test_a_name_typed_on_the_page_reaches_the_service(rig, open_tab):
    page = open_tab(rig.url).page
    card = page.locator('[data-class-id="2"]')
    card.locator(".class-name").click()
    card.locator(".class-field").fill("sulphur vacancy")
    with page.expect_response("**/v1/classes/2") as answer:
        card.locator(".class-field").press("Enter")
    assert answer.value.status == 200
    assert rig.get("/v1/classes/2")["name"] == "sulphur vacancy"
    expect(card.locator(".class-name")).to_have_text("sulphur vacancy")
    expect(page.locator('[data-kind="class.renamed"]')).to_contain_text("S1 → sulphur vacancy")


def test_a_name_given_elsewhere_reaches_the_page(rig, open_tab):
    page = open_tab(rig.url).page
    expect(page.locator('[data-class-id="3"] .class-name')).to_have_text("V_S2")
    rig.rename(3, "double vacancy")
    expect(page.locator('[data-class-id="3"] .class-name')).to_have_text("double vacancy")


def test_escape_keeps_the_old_name(shown, open_tab):
    page = open_tab(shown.url).page
    card = page.locator('[data-class-id="2"]')
    card.locator(".class-name").click()
    card.locator(".class-field").fill("nonsense")
    card.locator(".class-field").press("Escape")
    expect(card.locator(".class-name")).to_have_text("S1")
    assert shown.get("/v1/classes/2")["name"] == "S1"


def test_a_name_with_markup_is_only_text(rig, open_tab):
    evil = "<img src=x onerror=window.hacked=1>"
    page = open_tab(rig.url).page
    wait_for_frame(page, 1)
    rig.rename(2, evil)
    expect(page.locator('[data-class-id="2"] .class-name')).to_have_text(evil)
    expect(page.locator('[data-kind="class.renamed"]')).to_contain_text(evil)
    assert page.locator('img[src="x"]').count() == 0
    assert page.evaluate("window.hacked") is None


def test_a_class_that_is_pointed_at_stands_out(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    fe = shown.specimen.position[shown.specimen.class_id == 4][:1]
    points, scale = on_screen(page, fe, len(shown.specimen.scene))
    shape = shown.get("/v1/classes/4")["shape"]
    around = points + outline(shape, ring_radius(SPACING_PX, scale))
    colourful = np.ptp(pixels(page, "picture", around)[:, :3], axis=1)
    best = around[[int(colourful.argmax())]].tolist()
    page.locator('[data-class-id="2"]').hover()
    spread = "([r, g, b]) => Math.max(r, g, b) - Math.min(r, g, b)"
    wait_until(page, f"({spread})(({CANVAS})(['picture', {best}])[0]) < {colourful.max()} / 2")


def test_the_keyboard_walks_through_the_defects(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    page.locator("#markers").focus()
    page.keyboard.press("n")
    expect(page.locator("#tooltip")).to_be_visible()
    expect(page.locator("#tip-confidence")).to_contain_text("%")
    expect(page.locator("#tip-nm")).to_contain_text("nm")
    expect(page.locator("#tip-px")).to_contain_text("px")
    first = page.locator("#tip-track").text_content()
    page.keyboard.press("n")
    expect(page.locator("#tip-track")).not_to_have_text(first or "")
    page.keyboard.press("Escape")
    expect(page.locator("#tooltip")).to_be_hidden()


def test_the_pointer_finds_the_site_under_it(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    track = int(np.flatnonzero(shown.specimen.class_id == 5)[0])
    points, _ = on_screen(page, shown.specimen.position[[track]], len(shown.specimen.scene))
    page.locator("#markers").hover(position={"x": float(points[0, 0]), "y": float(points[0, 1])})
    expect(page.locator("#tip-class")).to_have_text("Te+S")
    expect(page.locator("#tip-track")).to_have_text(str(track))


def test_zoom_changes_the_scale_bar_and_fit_brings_it_back(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    bar = page.locator("#scale-text")
    whole = bar.text_content() or ""
    assert whole.endswith(" nm")
    page.locator("#markers").hover()
    page.mouse.wheel(0, -1500)
    expect(bar).not_to_have_text(whole)
    page.locator("#markers").dblclick()
    expect(bar).to_have_text(whole)


def test_a_frame_without_a_pixel_size_has_a_scale_in_pixels(make_rig, open_tab):
    rig = make_rig()
    rig.microscope.send(pixel_size_nm=None)
    page = open_tab(rig.url).page
    expect(page.locator("#scale-text")).to_have_text(re.compile(r"^\d+ px$"))
    expect(page.locator('[data-kind="defect.appeared"]').first).to_contain_text("px")


def test_hosts_are_marked_only_on_request(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    hosts = shown.specimen.position[shown.specimen.class_id == 0]
    points, _ = on_screen(page, hosts, len(shown.specimen.scene))
    before = pixels(page, "picture", points)[:, :3]
    assert np.mean(np.ptp(before, axis=1) > 0) < 0.1  # grey: the picture and no mark
    page.locator("#show-host").click()
    expect(page.locator("#show-host")).to_have_attribute("aria-pressed", "true")
    wait_until(page, f"({CANVAS})(['picture', {points.tolist()}]).every(([r, g, b]) => r !== g || g !== b)")


def test_an_event_leads_to_its_place(shown, open_tab):
    page = open_tab(shown.url).page
    row = page.locator('[data-kind="defect.appeared"] button').first
    expect(row).to_contain_text("defect found, there from the start")
    expect(row).to_contain_text("nm")
    row.click()
    expect(page.locator("#tip-role")).to_have_text("defect")
    expect(page.locator("#inspector .site-head")).to_contain_text("defect")


@pytest.mark.parametrize(("width", "height"), [(1600, 1000), (1024, 768), (390, 844)])
def test_nothing_is_cut_off_at_the_side(shown, open_tab, width, height):
    page = open_tab(shown.url, width, height).page
    wait_for_frame(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#markers").bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) > 300


def test_the_page_is_small_and_comes_compressed(shown, open_tab):
    folder = static_path()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in LOADED) < 300_000
    reply = httpx.get(shown.url + "/js/main.js", headers={"accept-encoding": "gzip"}, timeout=10)
    assert reply.headers["content-encoding"] == "gzip"
    assert len(open_tab(shown.url).page.query_selector_all("script:not([src])")) == 0


def test_history_keeps_a_fixed_number_of_frames(modules):
    kept = modules.evaluate("""async () => {
      const { CountHistory } = await import("./js/history.js");
      const history = new CountHistory(10);
      for (let i = 0; i < 1000; i++) history.push(i, [{ class_id: i, n: 1 }, { class_id: 0, n: i }]);
      const { length, time, counts } = history;
      return [length, time[history.slot(0)], counts.get(0)[history.slot(length - 1)], counts.size];
    }""")
    assert kept == [10, 990, 999, 128]


def test_the_chart_of_a_page_that_is_opened_late_shows_what_was_before(rig, open_tab):
    for _ in range(9):
        rig.microscope.send()
    page = open_tab(rig.url).page
    wait_for_frame(page, 10)
    expect(page.locator("#counts-chart")).to_have_attribute(
        "aria-label", re.compile("over the last 10 frames")
    )


DOTTED = """(() => {
  const canvas = document.querySelector("#counts-chart canvas");
  if (!canvas) return false;
  const [top, rows] = [Math.round(0.35 * canvas.height), Math.round(0.35 * canvas.height)];
  const { data } = canvas.getContext("2d").getImageData(0, top, canvas.width, rows);
  for (let i = 0; i < data.length; i += 4) {
    const three = data.slice(i, i + 3);
    if (data[i + 3] > 200 && Math.max(...three) - Math.min(...three) > 80) return true;
  }
  return false;
})()"""


def test_a_frame_alone_is_a_dot_in_the_chart(shown, open_tab):
    page = open_tab(shown.url, 1440, 900).page
    wait_for_frame(page, 1)
    wait_until(page, DOTTED)


def test_earlier_counts_go_in_front_of_those_that_are_there(modules):
    kept = modules.evaluate("""async () => {
      const { CountHistory } = await import("./js/history.js");
      const history = new CountHistory(10);
      history.push(5, [{ class_id: 2, n: 7 }]);
      history.push(6, [{ class_id: 2, n: 8 }]);
      history.precede([3, 4, 5], [{ class_id: 1, mean: [1, 2, 3] }, { class_id: 2, mean: [4, 5, 6] }]);
      const slots = Array.from({ length: history.length }, (_, i) => history.slot(i));
      return [slots.map((s) => history.time[s]), ...[1, 2].map((id) => slots.map((s) => history.counts.get(id)[s]))];
    }""")
    assert kept == [[3, 4, 5, 6], [1, 2, 0, 0], [4, 5, 7, 8]]
