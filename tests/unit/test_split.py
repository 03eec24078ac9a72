"""A class that a person divides: the line that is drawn, the model that tells its sides apart, and what follows it."""

from __future__ import annotations

import numpy as np
import pytest

from _crystal import honeycomb, render
from latticewatch.config import AnalysisSettings
from latticewatch.errors import UnknownClassError
from latticewatch.ingest import Frame
from latticewatch.messages import ClassSplit
from latticewatch.model import renumbered
from latticewatch.pipeline import FrameResult, Learner, analyse, read_model, write_model
from latticewatch.pipeline._plane import inside

SIDE = 240
SETTINGS = AnalysisSettings(learning_frames=3)


def stream(rng, n):
    for _ in range(n):
        scene = render(
            honeycomb(18.0),
            np.random.default_rng(7),
            counts=None,
            shape=(SIDE, SIDE),
            width=0.2,
            defects=(("gone", 0, 0.04, 0.0), ("bright", 0, 0.04, 1.6)),
        )
        yield rng.poisson(300 * scene.clean).astype(np.uint16)


def followed(learner, images, start=0) -> FrameResult:
    results: list[FrameResult] = []
    for number, image in enumerate(images, start):
        frame = Frame(image, series_id="s", number=number, ordinal=number, t_received=float(number))
        results += learner.fold(analyse(frame, learner.model, SETTINGS))
    return results[-1]


def count(result: FrameResult, class_id: int) -> int:
    return int((result.sites.class_id == class_id).sum())


def box(points, margin=0.5):
    """Corners of a line round all of some points."""
    (left, low), (right, high) = points.min(0) - margin, points.max(0) + margin
    return [(left, low), (right, low), (right, high), (left, high)]


@pytest.fixture(scope="module")
def merged():
    """A learner in which a person made one class of two, its newest result, and both numbers."""
    rng = np.random.default_rng(1)
    learner = Learner(SETTINGS)
    before = followed(learner, stream(rng, 7))
    both = sorted(
        e.class_id for e in learner.model.classes if e.role == "defect" and count(before, e.class_id)
    )
    assert len(both) == 2
    view = before.space.plane()
    # where the second lies, before it is part of the first
    line = box(view.pool[view.pool_class == both[1]])
    learner.merge(both[0], both[1:])
    learner.take_events()
    now = followed(learner, stream(rng, 1), start=7)
    assert count(now, both[0]) == count(before, both[0]) + count(before, both[1])
    return learner, now, line, count(before, both[1]), both[0]


def test_what_was_drawn_round_is_a_class_of_its_own_until_it_is_merged_back(merged, rng):
    learner, now, line, n, class_id = merged
    whole, images = Learner(SETTINGS), list(stream(rng, 4))
    whole.restore(learner.kept())
    view = now.space.plane()
    layout = view.layout
    halves = now.space.drawn_round(layout, np.array(line), class_id)
    assert sum(len(one.inside) + len(one.rest) for one in halves) == (view.pool_class == class_id).sum()
    entry, rows = learner.split(class_id, ClassSplit(layout=layout, line=line))
    assert len(rows) == n
    assert (entry.role, entry.name) == ("defect", f"{learner.model.entry(class_id).name} (2)")
    assert entry.average.std() > 0
    assert not np.allclose(entry.average, learner.model.entry(class_id).average, atol=0.1)
    (event,) = learner.take_events()
    assert (event.type, event.data.class_id, event.data.split_from) == (
        "class.split",
        entry.class_id,
        class_id,
    )

    # the sites that are laid out are of it at once, and those that come are
    view = now.space.plane()
    assert view.layout != layout
    assert set(view.pool_class[inside(np.array(line), view.pool)].tolist()) >= {entry.class_id}
    after, before = followed(learner, images, start=8), followed(whole, images, start=8)
    assert count(after, entry.class_id) == n
    assert count(after, class_id) == count(before, class_id) - n
    assert after.kinds[entry.class_id] == after.kinds[class_id]
    # their heights are followed as those of one class: none of them is counted as a host
    assert learner.model.entry(entry.class_id).total > 0
    for one, other in zip(learner.model.sublattices, whole.model.sublattices, strict=True):
        assert one.mixture.weight == pytest.approx(other.mixture.weight, rel=1e-3)

    in_a_file(learner)
    learner.merge(class_id, [entry.class_id])
    assert count(followed(learner, stream(rng, 1), start=12), class_id) == count(before, class_id)
    assert not any(known.parts for known in learner.model.sublattices)


def in_a_file(learner: Learner) -> None:
    """A division is kept in a file, and renumbered with its classes."""
    analysis = learner._following._newest
    model = read_model(write_model(learner.model)).model
    for one, first in ((model, 0), (renumbered(model, 500), 500)):
        posterior = one.classify(analysis.patches).posterior
        assert posterior == pytest.approx(learner.model.classify(analysis.patches).posterior, abs=1e-6)
        assert min(part.class_id for known in one.sublattices for part in known.parts) >= first


def test_a_line_through_the_middle_of_a_class_divides_nothing(merged):
    learner, now, *_ = merged
    model = learner.model
    host = next(e for e in model.classes if e.role == "host")
    view = now.space.plane()
    mine = view.pool[view.pool_class == host.class_id]
    middle = np.median(mine, axis=0)
    line = box(mine[mine[:, 0] < middle[0]], margin=0.0)
    with pytest.raises(ValueError, match=r"σ from the others"):
        learner.split(host.class_id, ClassSplit(layout=view.layout, line=line))
    with pytest.raises(ValueError, match="draw it round at least"):
        learner.split(host.class_id, ClassSplit(layout=view.layout, line=box(view.pool, 9.0)))
    with pytest.raises(ValueError, match="draw the line again"):
        learner.split(host.class_id, ClassSplit(layout=999, line=line))
    with pytest.raises(UnknownClassError):
        learner.split(999, ClassSplit(layout=view.layout, line=line))
    assert learner.model is model
    assert all(event.type != "class.split" for event in learner.take_events())


def test_a_point_is_within_a_line_that_turns_back(rng):
    line = np.array([(0, 0), (4, 0), (4, 4), (2, 1), (0, 4)], float)
    assert inside(line, np.array([(1, 1), (3, 1), (2, 3), (2, 0.5), (5, 1)], float)).tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]
    points = rng.uniform(-1, 5, (200, 2))
    turns = [abs(sum(_angle(p, line[i - 1], line[i]) for i in range(len(line)))) > 3 for p in points]
    assert inside(line, points).tolist() == turns


def _angle(point, one, other):
    """Angle that a side is seen under."""
    (a, b), (c, d) = one - point, other - point
    return np.arctan2(a * d - b * c, a * c + b * d)
