"""Two microscopes at one address: the list of them, and the page of each."""

from __future__ import annotations

from contextlib import ExitStack

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from _fake_learner import FakeLearner, fake_analyse, grid_image
from _running import Sender, settings_of, until
from latticewatch.execute import Engine
from latticewatch.microscopes import microscopes_of
from latticewatch.serve import Service


def test_the_list_of_microscopes_leads_to_the_page_of_each(tmp_path, open_tab):
    sources = ("titan=tcp://127.0.0.1:0", "nion=tcp://127.0.0.1:0")
    settings = settings_of(tmp_path, ingest={"sources": sources, "stall_after_s": 600})
    engines = {
        name: Engine(one, learner=FakeLearner(), analyse=fake_analyse)
        for name, one in microscopes_of(settings).items()
    }
    with ExitStack() as stack:
        service = stack.enter_context(Service(settings, engines))
        for name, frames in (("titan", 3), ("nion", 5)):
            sender = Sender(engines[name].sources[0])
            stack.callback(sender.close)
            sender.send(grid_image(), n=frames, series_id=f"series of {name}")
            until(engines[name], lambda n=name, k=frames: engines[n].receiver.counts().analysed == k)

        page = open_tab(service.url).page
        expect(page.get_by_role("row")).to_have_count(2)
        assert not Axe().run(page).response["violations"]
        sender.send(grid_image(), n=2, series_id="series of nion")
        expect(page.get_by_role("row").filter(has_text="nion")).to_contain_text("7 frames")
        for name in engines:
            row = page.get_by_role("row").filter(has_text=name)
            expect(row).to_contain_text("live")
            row.get_by_role("link").click()
            expect(page.locator("#health-series")).to_have_text(f"series of {name}")
            expect(page.locator("#phase")).to_have_text("live")
            page.goto(service.url)
