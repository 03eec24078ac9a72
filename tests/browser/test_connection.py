"""The page when nothing comes, nobody answers, nobody looks, or a key is needed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from latticewatch.messages import Note

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

LOST = ("ERR_CONNECTION_REFUSED", "WebSocket connection to")
REFUSED = ("401", "403")
SET_HIDDEN = """(hidden) => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_without_frames_it_says_how_to_get_some(make_rig, open_tab):
    page = open_tab(make_rig().url).page
    expect(page.locator("#empty-title")).to_have_text("Waiting for frames")
    expect(page.locator("#empty")).to_contain_text("latticewatch simulate")
    expect(page.locator("#phase")).to_have_text("waiting")


def test_the_first_frame_takes_the_place_of_the_help(make_rig, open_tab):
    rig = make_rig()
    page = open_tab(rig.url).page
    expect(page.locator("#empty-title")).to_have_text("Waiting for frames")
    rig.microscope.send()
    expect(page.locator("#empty")).to_be_hidden()
    expect(page.locator("#phase")).to_have_text("live")


def test_learning_shows_how_far_it_is(make_rig, open_tab):
    rig = make_rig(learning_frames=3)
    page = open_tab(rig.url).page
    rig.microscope.send()
    rig.microscope.send()
    expect(page.locator("#phase")).to_have_text("learning 2 of 3 frames")
    expect(page.locator("#learning")).to_be_visible()
    for _ in range(2):
        rig.microscope.send()
    expect(page.locator("#phase")).to_have_text("live")
    expect(page.locator("#learning")).to_be_hidden()


def test_a_frame_without_a_lattice_is_said_to_have_none(make_rig, open_tab):
    rig = make_rig(lattice_found=False)
    rig.microscope.send()
    page = open_tab(rig.url).page
    expect(page.locator("#no-lattice")).to_contain_text("No lattice found")
    expect(page.locator("#health-lattice")).to_have_text("no lattice found")


def test_what_the_service_doubts_is_said_over_the_picture_with_what_to_do(make_rig, open_tab):
    note = Note(code="few-cells", text="Only 18 <b>sites</b>.", remedy="Widen the field of view.")
    rig = make_rig(notes=(note,))
    rig.microscope.send()
    page = open_tab(rig.url).page
    expect(page.locator("#notes li")).to_have_text(["Only 18 <b>sites</b>. Widen the field of view."])
    expect(page.locator("#no-lattice")).to_be_hidden()


def test_a_stalled_stream_is_said_to_be_stalled_until_it_resumes(make_rig, open_tab):
    rig = make_rig(ingest={"stall_after_s": 0.6})
    rig.microscope.send()
    page = open_tab(rig.url).page
    expect(page.locator("#phase")).to_have_text("stalled")
    expect(page.locator("#banner-text")).to_have_text("Frames have stopped. The picture is frame 1.")
    expect(page.locator("#banner-time")).to_have_text(re.compile(r"^It is [\d.]+ s old\.$"))
    rig.microscope.send()
    expect(page.locator("#frame-caption")).to_contain_text("frame 2 ")
    expect(page.locator('[data-kind="stream.resumed"]')).to_have_count(1)


def test_it_comes_back_when_the_service_does(rig, open_tab):
    page = open_tab(rig.url, tolerate=LOST).page
    expect(page.locator("#phase")).to_have_text("live")
    rig.stop()
    expect(page.locator("#banner")).to_contain_text("Connection to the service lost")
    expect(page.locator("#phase")).to_have_text("offline")
    rig.restart()
    rig.microscope.send()
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#frame-caption")).to_contain_text("frame 2 ")
    # The log goes on: what came before the break is there once, what came after it too.
    expect(page.locator('[data-kind="series.started"]')).to_have_count(2)
    seqs = page.locator(".event").evaluate_all("(rows) => rows.map((row) => Number(row.dataset.seq))")
    assert seqs == sorted(set(seqs), reverse=True)


def test_the_next_frame_is_asked_for_only_after_the_last_was_drawn(rig, open_tab):
    tab = open_tab(rig.url)
    for number in range(2, 12):
        rig.microscope.send()
        expect(tab.page.locator("#frame-caption")).to_contain_text(f"frame {number} ")
        assert tab.said("asked") <= tab.said("got") + 1


def test_a_hidden_page_stops_asking_and_goes_on_when_it_is_seen(rig, open_tab):
    tab = open_tab(rig.url)
    expect(tab.page.locator("#frame-caption")).to_contain_text("frame 1 ")
    tab.page.evaluate(SET_HIDDEN, True)
    got = None
    for number in range(2, 6):
        rig.microscope.send()
        # Of these frames the page hears only through another channel: the event of a new name.
        rig.rename(2, f"seen while hidden at {number}")
        expect(tab.page.locator('[data-kind="class.renamed"]')).to_have_count(number - 1)
        # Counted from the first that it heard of: just before it was hidden it may have asked anew for another view.
        got = got or tab.said("got")
    # at most the credit that was given before it was hidden is answered
    expect(tab.page.locator("#frame-caption")).to_contain_text(re.compile("frame [12] "))
    assert tab.said("got") <= got + 1
    tab.page.evaluate(SET_HIDDEN, False)
    expect(tab.page.locator("#frame-caption")).to_contain_text("frame 5 ")


def test_a_key_is_asked_for_until_it_is_right(make_rig, open_tab):
    rig = make_rig(serve={"read_key": "read-me", "control_key": "steer-me"})
    rig.microscope.send()
    tab = open_tab(rig.url, tolerate=REFUSED)
    page = tab.page
    for key in ("wrong", "read-me"):
        expect(page.locator("#key-reason")).to_contain_text("read scope")
        page.locator("#key-field").fill(key)
        page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#phase")).to_have_text("live")
    expect(page.locator("#key-dialog")).to_be_hidden()
    assert page.evaluate("Object.values(sessionStorage)") == ["read-me"]
    assert page.evaluate("localStorage.length") == 0

    # A key for reading: what would be refused is not there.
    expect(page.locator("#use-key")).to_be_visible()
    expect(page.locator("#relearn")).to_be_hidden()
    card = page.locator('[data-class-id="2"]')
    expect(card.locator(".class-name")).to_be_disabled()
    page.locator("#use-key").click()
    expect(page.locator("#key-reason")).to_contain_text("control scope")
    page.locator("#key-field").fill("steer-me")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#relearn")).to_be_visible()
    card.locator(".class-name").click()
    card.locator(".class-field").fill("renamed")
    card.locator(".class-field").press("Enter")
    expect(page.locator('[data-kind="class.renamed"]')).to_contain_text("S1 → renamed")


def test_with_a_key_for_reading_nothing_can_be_changed(make_rig, open_tab):
    rig = make_rig(serve={"read_key": "read-me", "control_key": "steer-me"})
    rig.microscope.send()
    page = open_tab(rig.url, tolerate=REFUSED).page
    page.locator("#key-field").fill("read-me")
    page.get_by_role("button", name="Use this key").click()
    card = page.locator('[data-class-id="2"]')
    expect(card.locator(".class-name")).to_be_disabled()
    card.locator(".class-count").click()
    expect(card.locator(".class-actions button")).to_have_count(1)  # hiding it on this page
    expect(card.locator(".class-actions select")).to_have_count(0)
