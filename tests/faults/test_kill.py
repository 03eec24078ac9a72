"""SIGKILL while classes are named and tracks live: nothing is lost or told twice. ``--faults N`` kills N times."""

from __future__ import annotations

import pytest
from _kills import NAME, appeared_twice, changed_untold, killed, series_told, told_of

from latticewatch.messages import Event


@pytest.fixture(scope="module")
def story(request, tmp_path_factory):
    kills = request.config.getoption("--faults") or 1
    seen, events = killed(tmp_path_factory.mktemp("killed"), kills)
    starts = sorted(seen.starts_s[1:])
    request.config.get_terminal_writer().line(
        f"\n{kills} kills, {len(events)} events, live again in {starts[len(starts) // 2]:.1f} s (median), "
        f"{starts[-1]:.1f} s (at most); series told: {[len(told) for told in series_told(events).values()]}"
    )
    return kills, seen, events


# each kill is a start of the real service: ten thousand of them take a day
pytestmark = pytest.mark.timeout(0)


def test_no_event_is_lost_or_repeated(story):
    _, seen, events = story
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len({event.stream for event in events}) == 1
    # what a client was given is what the log says
    assert seen.events
    read_again = [Event.model_validate_json(event.model_dump_json()) for event in events]
    assert [read_again[seq - 1] for seq in seen.events] == list(seen.events.values())


def test_no_track_appears_twice(story):
    _, _, events = story
    assert any(event.type == "defect.appeared" for event in events)
    assert appeared_twice(events) == []


def test_names_are_kept_and_told_once(story):
    _, seen, events = story
    (class_id,) = seen.renamed
    told = [told_of(event) for event in events if event.type == "class.renamed"]
    assert [one["class_id"] for one in told if one["class_name"] == NAME != one["previous_name"]] == [
        class_id
    ]


def test_classes_keep_their_numbers_names_and_roles(story):
    _, seen, events = story
    assert len(seen.catalogue) > 1
    assert changed_untold(seen, events) == []


def test_a_series_ends_once_for_each_start(story):
    kills, _, events = story
    for told in series_told(events).values():
        # on a machine that is slow the last one is cut short five seconds after SIGTERM
        assert told == (["started", "ended"] * len(told))[: len(told)]
    assert sum(told.count("started") for told in series_told(events).values()) == kills + 1
