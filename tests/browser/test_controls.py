"""Each control of the page does what it says: those that the tests of its parts do not press."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from _canvas import CANVAS, on_screen, outline, pixels, ring_radius, wait_for_frame, wait_until
from _stand_in import PIXEL_SIZE_NM, SPACING_PX
from playwright.sync_api import Response, expect

from latticewatch.statistics import poisson_interval

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

PAINTED = """(() => { const c = document.getElementById("CANVAS");
  return c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((one, i) => i % 4 < 3 && one > 0); })()"""


def test_light_stays_light_when_the_page_comes_again(shown, open_tab):
    page = open_tab(shown.url).page
    page.locator("#theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.locator("#theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_buttons_zoom_and_the_small_frame_moves_the_view(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    bar, minimap = page.locator("#scale-text"), page.locator("#minimap")
    whole = bar.inner_text()
    expect(minimap).to_be_hidden()
    for _ in range(4):
        page.locator("#zoom-in").click()
    expect(bar).not_to_have_text(whole)
    expect(minimap).to_be_visible()
    under = page.locator("#readout")
    page.locator("#markers").hover(position={"x": 100, "y": 100})
    expect(under).to_contain_text("nm")
    before = under.inner_text()
    minimap.click(position={"x": 8, "y": 8})
    page.locator("#markers").hover(position={"x": 100, "y": 101})
    page.locator("#markers").hover(position={"x": 100, "y": 100})
    expect(under).to_contain_text("nm")
    assert under.inner_text() != before
    page.locator("#zoom-out").click()
    page.locator("#zoom-fit").click()
    expect(bar).to_have_text(whole)
    expect(minimap).to_be_hidden()


@pytest.mark.parametrize("locked", [True, False])
def test_a_view_that_is_locked_shows_the_same_site_in_the_same_place(make_rig, open_tab, locked):
    rig = make_rig(drift_px=(1.9, 0.0))
    rig.microscope.send()
    page = open_tab(rig.url, 1440, 900).page
    wait_for_frame(page, 1)
    if locked:
        page.keyboard.press("l")
        expect(page.locator("#lock")).to_have_attribute("aria-pressed", "true")
    track = int(np.argmin(np.linalg.norm(rig.specimen.position - len(rig.specimen.scene) / 2, axis=1)))
    points, _ = on_screen(page, rig.specimen.position[[track]], len(rig.specimen.scene))
    place = {"x": float(points[0, 0]), "y": float(points[0, 1])}
    page.locator("#markers").click(position=place)
    expect(page.locator("#site-track")).to_have_text(f"#{track}")
    page.keyboard.press("Escape")
    for number in range(2, 9):
        rig.microscope.send()
        wait_for_frame(page, number)
    page.locator("#markers").click(position=place)
    if locked:
        expect(page.locator("#site-track")).to_have_text(f"#{track}")
    else:
        expect(page.locator("#site-track").or_(page.locator("#inspector .none"))).not_to_have_text(
            f"#{track}"
        )


def test_trails_are_drawn_on_request(make_rig, open_tab):
    rig = make_rig(drift_px=(4.0, 0.0))
    rig.microscope.send()
    page = open_tab(rig.url).page
    for number in range(2, 8):
        rig.microscope.send()
        wait_for_frame(page, number)
    # where they were in the second frame
    defects = rig.specimen.position[rig.specimen.class_id == 4] + np.array([4.0, 0.0])
    points, _ = on_screen(page, defects, len(rig.specimen.scene))
    now = f"({CANVAS})(['picture', {points.tolist()}]).flat()"
    before = page.evaluate(f"() => {now}")
    page.locator("#trails").click()
    expect(page.locator("#trails")).to_have_attribute("aria-pressed", "true")
    wait_until(page, f"{now}.some((one, i) => Math.abs(one - {before}[i]) > 60)")
    page.keyboard.press("t")
    wait_until(page, f"{now}.every((one, i) => one === {before}[i])")


def test_contrast_changes_the_picture_and_comes_back(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    corner = np.array([[4.0, 4.0], [9.0, 9.0], [14.0, 14.0]])
    grey = pixels(page, "picture", corner)
    page.locator("#contrast summary").click()
    page.locator("#contrast-map").select_option("viridis")
    coloured = f"({CANVAS})(['picture', {corner.tolist()}]).every(([r, g, b]) => r !== g || g !== b)"
    wait_until(page, coloured)
    page.locator("#contrast-auto").click()
    expect(page.locator("#contrast-white-value")).not_to_have_text("100 %")
    page.locator("#contrast-reset").click()
    expect(page.locator("#contrast-map")).to_have_value("grey")
    wait_until(page, f"!({coloured})")
    assert (pixels(page, "picture", corner) == grey).all()


def test_the_histogram_is_dragged_at_either_end(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    page.locator("#contrast summary").click()
    canvas = page.locator("#contrast canvas")
    box = canvas.bounding_box()
    assert box is not None
    for start, end, name in ((0.05, 0.2, "black"), (0.95, 0.7, "white")):
        page.mouse.move(box["x"] + start * box["width"], box["y"] + 5)
        page.mouse.down()
        page.mouse.move(box["x"] + end * box["width"], box["y"] + 5)
        page.mouse.up()
        expect(page.locator(f"#contrast-{name}-value")).to_have_text(f"{100 * end:.0f} %")


def test_the_link_that_is_copied_shows_the_same_view(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    page.locator("#show-host").click()
    page.locator("#download summary").click()
    page.locator("#copy-link").click()
    expect(page).to_have_url(re.compile("host=true"))
    expect(page.locator("#copy-link")).to_have_text(re.compile("Copied|It is in the address line"))
    again = open_tab(page.url).page
    expect(again.locator("#show-host")).to_have_attribute("aria-pressed", "true")


def test_the_link_shows_the_same_part_of_the_frame_and_the_same_site(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    site = int(np.flatnonzero(shown.specimen.class_id == 5)[0])
    points, _ = on_screen(page, shown.specimen.position[[site]], len(shown.specimen.scene))
    page.locator("#markers").click(position={"x": float(points[0, 0]), "y": float(points[0, 1])})
    page.locator("#site-centre").click()
    page.locator("#zoom-in").click()
    page.locator("#download summary").click()
    page.locator("#copy-link").click()
    expect(page).to_have_url(re.compile(f"at=.*&track={site}$"))
    again = open_tab(page.url).page
    expect(again.locator("#site-track")).to_have_text(f"#{site}")
    expect(again.locator("#site-class")).to_have_text("Te+S")
    expect(again.locator("#scale-text")).to_have_text(page.inner_text("#scale-text"))
    for one in (page, again):
        one.locator("#markers").hover(position={"x": 50, "y": 60})
    expect(page.locator("#readout")).to_contain_text("nm")
    expect(again.locator("#readout")).to_have_text(page.inner_text("#readout"))


def test_the_question_mark_explains_the_page(shown, open_tab):
    page = open_tab(shown.url).page
    page.locator("#show-help").click()
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()


def test_each_role_can_be_taken_out_of_the_frame(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    for role, kind in (("defect", 5), ("neighbour", 6), ("unknown", -1)):
        sites = shown.specimen.position[shown.specimen.class_id == kind]
        points, scale = on_screen(page, sites, len(shown.specimen.scene))
        if role != "neighbour":
            points = points[:1] + outline("circle", ring_radius(SPACING_PX, scale))
        before = pixels(page, "picture", points)
        page.locator(f"#show-{role}").click()
        expect(page.locator(f"#show-{role}")).to_have_attribute("aria-pressed", "false")
        wait_until(
            page,
            f"({CANVAS})(['picture', {points.tolist()}]).flat().some((one, i) => one !== {before.tolist()}.flat()[i])",
        )


def test_the_chart_shows_what_and_how_long_is_chosen(shown, open_tab):
    page = open_tab(shown.url, 1440, 900).page
    wait_for_frame(page, 1)
    page.locator("#chart-density").click()
    expect(page.locator("#chart-name")).to_have_text("Defects per nm²")
    newest = shown.get("/v1/history")["end"][-1]

    def asks_for(seconds: int) -> Callable[[Response], bool]:
        """The page asks now and then by itself, too, for the time that was shown before."""

        def asks(response: Response) -> bool:
            asked = urlsplit(response.url)
            since = parse_qs(asked.query).get("since")
            wanted = None if seconds == 0 else pytest.approx(newest - seconds, abs=5)
            return asked.path == "/v1/history" and wanted == (since and float(since[0]))

        return asks

    for seconds in (600, 3600, 0, 60):
        button = page.locator(f'[data-range="{seconds}"]')
        with page.expect_response(asks_for(seconds)):
            button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
    page.locator("#chart-count").click()
    expect(page.locator("#chart-name")).to_have_text("Defects per frame")


def test_what_is_beside_the_chart_is_of_the_class_that_is_chosen(shown, open_tab):
    page = open_tab(shown.url, 1440, 900).page
    wait_for_frame(page, 1)
    n = {one["class_id"]: one["n"] for one in shown.get("/v1/counts")["by_class"]}
    area = (len(shown.specimen.scene) * PIXEL_SIZE_NM) ** 2
    density = page.locator("#rate-density")
    expect(density).to_have_text(f"{sum(n[one] for one in (2, 3, 4, 5)) / area:.3f} per nm²")
    with page.expect_response(re.compile("/v1/history.*class_id=3")):
        page.locator('[data-class-id="3"] .class-count').click()
    expect(page.locator("#rates-of")).to_have_text("V_S2")
    expect(density).to_have_text(f"{n[3] / area:.3f} per nm²")
    page.keyboard.press("Escape")
    expect(page.locator("#rates-of")).to_be_hidden()


def test_rates_are_a_chart_with_the_intervals_of_the_service(rig, open_tab):
    page = open_tab(rig.url, 1440, 900).page
    wait_for_frame(page, 1)
    rig.microscope.send()
    wait_for_frame(page, 2)
    page.locator("#chart-rate").click()
    expect(page.locator("#chart-name")).to_have_text("Defects per min")
    expect(page.locator("#defect-total")).to_contain_text("95 %")
    expect(page.locator("#counts-chart canvas")).to_have_count(1)
    counts = [0, 1, 2, 7, 49, 50, 400]
    # two minutes watched in points of a second, of the first of which nothing was seen, with an event each second
    found = page.evaluate(
        """async (counts) => {
      const { interval, ratesOver } = await import("./js/rates.js");
      const end = Array.from({ length: 120 }, (_, i) => i + 1);
      const watched = end.map((time) => (time > 60 ? 1 : 0));
      const rates = ratesOver({ end, watched_s: watched, events: { appeared: watched } }, "appeared", 0, 120);
      return [counts.map(interval), rates.rate];
    }""",
        counts,
    )
    assert np.array(found[0]) == pytest.approx(np.array([poisson_interval(n) for n in counts]), rel=1e-3)
    known = [one for one in found[1] if one is not None]
    assert found[1][:2] == [None, None]
    assert known == pytest.approx([60.0] * len(known))
    assert 2 * len(known) == len(found[1])


def test_counts_over_time_are_a_table(shown, open_tab):
    page = open_tab(shown.url).page
    wait_for_frame(page, 1)
    page.locator("#download summary").click()
    with page.expect_download() as download:
        page.locator("#save-counts").click()
    rows = list(csv.reader(download.value.path().read_text(encoding="utf-8").splitlines()))
    found = dict(zip(rows[0], rows[-1], strict=True))
    for one in shown.get("/v1/counts")["by_class"]:
        assert float(found[f"{one['name']} ({one['role']}) per frame"]) == one["n"]


def test_a_birth_is_shown_again_and_its_place_brought_to_the_middle(rig, open_tab):
    page = open_tab(rig.url, 1440, 900).page
    wait_for_frame(page, 1)
    rig.microscope.send()
    wait_for_frame(page, 2)
    page.locator('[data-kind="defect.appeared"] button').first.click()
    page.locator("#site-replay").click()
    expect(page.locator("#replay-text")).to_have_text(
        re.compile(r"^frame \d+, [+−][\d.]+ s from when it was told$")
    )
    wait_until(page, PAINTED.replace("CANVAS", "replay-canvas"))
    page.locator("#zoom-fit").click()
    expect(page.locator("#minimap")).to_be_hidden()
    page.locator("#site-centre").click()
    expect(page.locator("#minimap")).to_be_visible()
    page.locator("#unpin").click()
    expect(page.locator("#site-class")).to_have_count(0)


def test_keys_pause_step_and_return(rig, open_tab):
    page = open_tab(rig.url).page
    wait_for_frame(page, 1)
    rig.microscope.send()
    wait_for_frame(page, 2)
    page.keyboard.press(",")
    wait_for_frame(page, 1)
    expect(page.locator("#phase")).to_have_text("paused")
    page.keyboard.press(".")
    wait_for_frame(page, 2)
    page.keyboard.press("End")
    expect(page.locator("#phase")).to_have_text("live")
    page.keyboard.press(" ")
    expect(page.locator("#phase")).to_have_text("paused")
    page.keyboard.press(" ")
    expect(page.locator("#phase")).to_have_text("live")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()


def test_tabs_are_walked_with_arrows(shown, open_tab):
    page = open_tab(shown.url, 390, 844).page
    wait_for_frame(page, 1)
    page.locator("#tab-classes").focus()
    for name in ("inspector", "events", "layout", "classes"):
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#tab-{name}")).to_have_attribute("aria-selected", "true")
        expect(page.locator(f"#panel-{name}")).to_be_visible()


def test_a_class_is_merged_into_another_after_a_question(rig, open_tab):
    page = open_tab(rig.url, 1440, 900).page
    wait_for_frame(page, 1)
    card = page.locator('[data-class-id="2"]')
    card.locator(".class-count").click()
    before = int(card.locator(".class-count").inner_text())
    other = int(page.locator('[data-count="3"]').inner_text())
    card.get_by_label("Merge class S1 into another").select_option("V_S2")
    expect(page.locator("#ask-text")).to_contain_text("cannot be undone")
    page.get_by_role("button", name="Do it").click()
    rig.microscope.send()
    expect(page.locator('[data-class-id="2"]')).to_have_count(0)
    expect(page.locator('[data-count="3"]')).to_have_text(str(before + other))
