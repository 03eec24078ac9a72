"""Every state that the page can be in is told apart: its word, what covers the picture, whether it looks old."""

from __future__ import annotations

import re

import pytest
from _states import STATES, with_keys
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

REFUSED = ("401", "403")


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_told_in_a_word_and_over_the_picture(make_rig, open_tab, state):
    arrange, word, (where, text), old = STATES[state]
    page = open_tab(arrange(make_rig).url).page
    expect(page.locator("#phase")).to_have_text(word)
    expect(page.locator(where)).to_be_visible()
    expect(page.locator(where)).to_contain_text(text)
    expect(page.locator("#stale")).to_be_visible(visible=old)
    expect(page.locator("body")).to_have_class(
        re.compile(r"\bold\b") if old else re.compile(r"^(?!.*\bold\b)")
    )
    expect(page.locator("#banner")).to_be_visible(visible=old)
    violations = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:120]) for one in violations] == []


def use_key(page: Page, key: str) -> None:
    page.locator("#key-field").fill(key)
    page.get_by_role("button", name="Use this key").click()


def test_without_a_key_nothing_is_shown_and_the_page_can_be_asked_again(make_rig, open_tab):
    page = open_tab(with_keys(make_rig).url, tolerate=REFUSED).page
    expect(page.locator("#key-reason")).to_contain_text("read scope")
    page.locator("#key-cancel").click()
    expect(page.locator("#phase")).to_have_text("offline")
    expect(page.locator("#banner-text")).to_have_text("A key is needed.")
    expect(page.locator("#empty")).to_be_visible()
    page.locator("#retry").click()
    use_key(page, "read-me")
    expect(page.locator("#phase")).to_have_text("live")


def test_what_a_key_may_not_do_asks_for_another_and_changes_nothing(make_rig, open_tab):
    rig = with_keys(make_rig)
    page = open_tab(rig.url, tolerate=REFUSED).page
    use_key(page, "read-me")
    expect(page.locator("#phase")).to_have_text("live")
    # the controls are not there: the request is made as they would make it
    page.evaluate("""() => { window.answer = import("./js/access.js")
      .then(({ patchJson }) => patchJson("v1/classes/2", { name: "taken" })).catch(({ status }) => status); }""")
    expect(page.locator("#key-reason")).to_contain_text("control scope")
    page.locator("#key-cancel").click()
    assert page.evaluate("window.answer") == 403
    expect(page.locator('[data-class-id="2"] .class-name')).to_have_text("S1")
    expect(page.locator("#phase")).to_have_text("live")
