"""Pages share what they may cost: one gets every frame, many get fewer, and the same message at the same moment."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from latticewatch.messages import LiveRequest
from latticewatch.serve import _live
from latticewatch.serve._pace import LONGEST_S, SHARE, Pace
from latticewatch.serve._shared import Shared


class Machine:
    """A clock, and processor time of the event loop, which grows with what is sent."""

    def __init__(self, frame_s=0.01):
        self.now, self.spent, self.frame_s = 100.0, 5.0, frame_s
        self.pace = Pace(lambda: self.now, lambda: self.spent)

    def run(self, pages, seconds, send_s, pack_s):
        """Messages that each page got which always wants one, beats that there were, and what all cost."""
        got, answered, drawn = [0] * pages, [-1] * pages, [-1] * pages
        beats, before, packed = set(), self.spent, 0.0
        end = self.now + seconds
        while self.now < end:
            frame = int(self.now / self.frame_s)
            for page in range(pages):
                if drawn[page] == frame or self.pace.left_s(answered[page]) > 0:
                    continue
                answered[page] = self.pace.take()
                if answered[page] not in beats:
                    self.pace.packed(pack_s)
                    packed += pack_s
                beats.add(answered[page])
                self.spent += send_s
                drawn[page] = frame
                got[page] += 1
            self.now += 0.0005
        return got, len(beats), (self.spent - before + packed) / seconds


def test_a_page_alone_gets_a_hundred_frames_a_second():
    (got,), _, _ = Machine().run(1, 4.0, 0.0003, 0.0005)
    assert got >= 0.95 * 4 * 100


@pytest.mark.parametrize(("pages", "send_s"), [(5, 0.001), (20, 0.0003), (60, 0.0003)])
def test_all_pages_together_cost_no_more_than_they_may_and_share_it(pages, send_s):
    machine = Machine()
    machine.run(pages, 4.0, send_s, 0.001)
    got, beats, share = machine.run(pages, 6.0, send_s, 0.001)
    assert 0.7 * SHARE < share < 1.15 * SHARE
    assert max(got) - min(got) <= 1
    # All in the same beats, so that there is one message to be packed for all.
    assert beats <= max(got) + 1


def test_no_page_waits_longer_than_half_a_second_however_many_there_are():
    machine = Machine()
    machine.run(100, 5.0, 0.002, 0.001)
    assert machine.pace.period_s <= LONGEST_S


def test_what_else_the_service_did_in_a_long_pause_does_not_slow_the_next_page():
    machine = Machine()
    machine.run(1, 4.0, 0.0003, 0.0005)
    period_s = machine.pace.period_s
    machine.now += 60.0
    machine.spent += 30.0
    machine.pace.take()
    assert machine.pace.period_s == pytest.approx(period_s)


def test_a_page_that_was_not_answered_in_a_beat_does_not_wait():
    machine = Machine()
    machine.run(20, 4.0, 0.001, 0.001)
    assert machine.pace.left_s(-1) == 0
    assert machine.pace.left_s(machine.pace.take()) >= 0


def test_what_several_ask_for_at_once_is_made_once_and_an_error_is_not_kept():
    made, go = [], threading.Event()

    def make():
        go.wait(10)
        made.append(1)
        if len(made) == 1:
            raise ValueError("not this time")
        return len(made)

    async def ask():
        shared = Shared(fresh_s=60.0)
        first = [asyncio.create_task(shared.get("a", make)) for _ in range(5)]
        await asyncio.sleep(0)
        go.set()
        failed = await asyncio.gather(*first, return_exceptions=True)
        again = await asyncio.gather(*(shared.get("a", make) for _ in range(5)))
        return failed, again

    failed, again = asyncio.run(ask())
    assert {str(error) for error in failed} == {"not this time"}
    assert again == [2] * 5


def test_what_is_old_is_made_anew_and_one_who_goes_away_takes_it_from_nobody():
    made, go = [], threading.Event()

    def make():
        made.append(1)
        go.wait(10)
        return len(made)

    async def ask():
        shared = Shared(fresh_s=0.0)
        gone, stays = (asyncio.create_task(shared.get("a", make)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        go.set()
        return await stays, await shared.get("a", make)

    assert asyncio.run(ask()) == (1, 2)


def test_a_page_that_becomes_due_for_the_plane_meanwhile_puts_it_into_no_message_of_others(monkeypatch):
    def message(hub, state, request, with_model, feed):
        return b"with the plane" if feed is not None and feed.due(request) else b"without"

    class Feed:
        """The period ends after it was first asked for."""

        looks = 0

        def due(self, request):
            self.looks += 1
            return self.looks > 1

    async def ask():
        hub, state = SimpleNamespace(messages=Shared(fresh_s=60), pace=Pace()), SimpleNamespace(number=3)
        feed = Feed()
        return [
            await _live._packed(hub, state, LiveRequest(type="next", plane=True), False, feed)  # type: ignore[arg-type]
            for _ in range(2)
        ]

    monkeypatch.setattr(_live, "_message", message)
    assert asyncio.run(ask()) == [b"without", b"with the plane"]
