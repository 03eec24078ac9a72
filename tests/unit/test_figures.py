"""What the figures of an analysed file show, measured on the figures themselves."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from _figure_scene import catalogue, frame
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text

from latticewatch.errors import NotLearntError
from latticewatch.messages import ROLES, DefectEventData, Note, Pixel, colour_of, signs_of
from latticewatch.offline import _counts as counting
from latticewatch.offline._figures import (
    classes_figure,
    counts_figure,
    embedding_figure,
    overlay_figure,
    save_figures,
    statistics_figure,
)
from latticewatch.offline._statistics import statistics_summary
from latticewatch.offline._style import Page, class_looks, nice_length
from latticewatch.pipeline import EventDraft

LONG = (
    "A very long name that somebody gave, for $5 to $6, to iron on tungsten next to a double sulphur vacancy",
    "W" * 64,
    "x_1^2 & ~{}% \\alpha",
)


def texts_of(figure):
    """Visible texts with their boxes [px], formulae and no-break spaces undone."""
    figure.draw_without_rendering()
    beyond = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                beyond |= {tick.label1, tick.label2}
    found = []
    for text in figure.findobj(Text):
        content = text.get_text().replace(r"\$", "$").replace("\u00a0", " ")
        if content.strip() and text.get_visible() and text not in beyond:
            found.append((content, text.get_window_extent()))
    return found


def words_of(figure):
    return "\n".join(content for content, _ in texts_of(figure))


def marks_of(figure, axes, facecolour=None, edgecolour=None):
    """Positions (row, col) of all marks of a colour."""
    found = [np.zeros((0, 2))]
    for collection in axes.findobj(PathCollection):
        colours = collection.get_edgecolor() if facecolour is None else collection.get_facecolor()
        if len(colours) and to_hex(colours[0]) == (edgecolour or facecolour):
            found.append(np.asarray(collection.get_offsets())[:, ::-1])
    return np.concatenate(found)


def image_axes(figure, shape):
    return next(axes for axes in figure.axes if any(i.get_array().shape == shape for i in axes.get_images()))


def assert_laid_out(figure):
    """No text leaves the page, and no two touch."""
    width, height = figure.get_size_inches() * figure.dpi
    texts = texts_of(figure)
    assert texts
    for content, box in texts:
        assert box.x0 >= 0, content
        assert box.y0 >= 0, content
        assert box.x1 <= width, content
        assert box.y1 <= height, content
    for index, (content, box) in enumerate(texts):
        for other, other_box in texts[index + 1 :]:
            overlap_x = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
            overlap_y = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
            assert overlap_x <= 1 or overlap_y <= 1, (content, other)


@pytest.fixture
def learnt(rng):
    return frame(rng)


def figures_of(image, result):
    return overlay_figure(image, result), classes_figure(result), embedding_figure(result)


@pytest.mark.parametrize(
    ("classes", "pixel_size_nm"),
    [
        (catalogue(), 0.02),
        (catalogue(20, 6, names=LONG), None),
        (catalogue(0, 0)[:1], 0.02),
        (catalogue(1, 0, names=LONG[1:]), 1e-4),
    ],
    ids=["few", "twenty-with-long-names", "one", "one-defect-of-tiny-pixels"],
)
def test_text_stays_on_the_page_and_apart(rng, classes, pixel_size_nm):
    image, result = frame(rng, (128, 160), 12.0, classes=classes, pixel_size_nm=pixel_size_nm)
    stack = [result, replace(result, number=1), replace(result, number=2, lattice_found=False)]
    for figure in (*figures_of(image, result), counts_figure(stack)):
        assert_laid_out(figure)
        assert figure.get_size_inches()[0] * figure.dpi == pytest.approx(1600)


@pytest.mark.parametrize("shape", [(400, 60), (60, 400), (24, 24)])
def test_frames_of_any_shape_keep_their_pixels_square(rng, shape):
    image, result = frame(rng, shape, 9.0)
    figure = overlay_figure(image, result)
    assert_laid_out(figure)
    box = image_axes(figure, shape).get_window_extent()
    assert box.width / box.height == pytest.approx(shape[1] / shape[0], rel=1e-6)


def test_marks_at_the_border_leave_the_frame_whole(learnt):
    image, result = learnt
    corners = np.array([[0, 0], [255, 255], [0, 255], [255, 0]], np.float32)
    sites = replace(result.sites, position=np.resize(corners, result.sites.position.shape))
    axes = image_axes(overlay_figure(image, replace(result, sites=sites)), image.shape)
    assert axes.get_xlim() == (-0.5, 255.5)
    assert axes.get_ylim() == (255.5, -0.5)


def test_every_defect_has_a_ring_in_the_colour_of_its_class(learnt):
    image, result = learnt
    figure = overlay_figure(image, result)
    axes = image_axes(figure, image.shape)
    defects = [entry for entry in result.classes if entry.role == "defect"]
    signs = signs_of((entry.class_id, entry.name, entry.role) for entry in result.classes)
    for entry in defects:
        sites = result.sites.position[result.sites.class_id == entry.class_id]
        assert len(sites)
        np.testing.assert_array_equal(marks_of(figure, axes, edgecolour=signs[entry.class_id].colour), sites)
    n_defects = int(np.isin(result.sites.class_id, [entry.class_id for entry in defects]).sum())
    assert f"{n_defects} defects among {len(result.sites)} sites" in words_of(figure)


def test_hosts_are_counted_and_not_marked(learnt):
    image, result = learnt
    figure = overlay_figure(image, result)
    marked = sum(
        len(collection.get_offsets())
        for collection in image_axes(figure, image.shape).findobj(PathCollection)
        if to_hex(np.atleast_2d(collection.get_edgecolor())[0]) != "#2b313a"
        or len(collection.get_facecolor())
    )
    n_hosts = int(np.isin(result.sites.class_id, [0, 1]).sum())
    assert marked == len(result.sites) - n_hosts
    words = words_of(figure).split("\n")
    assert str(int((result.sites.class_id == 0).sum())) in words


def test_sites_of_no_class_are_dashed(learnt):
    image, result = learnt
    figure = overlay_figure(image, result)
    axes = image_axes(figure, image.shape)
    unknown = [
        collection
        for collection in axes.findobj(PathCollection)
        if to_hex(collection.get_edgecolor()[0]) == colour_of("", "unknown")
    ]
    assert len(unknown) == 1
    (_, dashes), *_ = unknown[0].get_linestyle()
    assert dashes
    assert len(unknown[0].get_offsets()) == int((result.sites.class_id == -1).sum())


def test_rings_shrink_with_the_lattice(rng):
    def diameter(constant_px):
        image, result = frame(rng, (512, 512), constant_px, odd_share=0.01)
        axes = image_axes(overlay_figure(image, result), image.shape)
        widest = max(collection.get_sizes()[0] for collection in axes.findobj(PathCollection))
        return np.sqrt(widest), len(result.sites)

    (small, many), (large, _) = diameter(8.6), diameter(17.2)
    assert many > 8000
    assert large == pytest.approx(2 * small, rel=0.01)


def test_a_frame_without_lattice_says_so(rng):
    image, result = frame(rng, classes=(), lattice_found=False)
    figure = overlay_figure(
        image, replace(result, notes=(Note(code="few", text="too few reflections above the noise"),))
    )
    words = words_of(figure)
    assert f"no lattice found: {len(result.sites)} peaks" in words
    assert "too few reflections above the noise" in words
    assert "lattice constant" not in words
    assert_laid_out(figure)


def test_a_frame_that_lost_the_lattice_shows_peaks(learnt):
    image, result = learnt
    lost = replace(result, lattice_found=False, lattice_constant_px=None)
    axes = image_axes(overlay_figure(image, lost), image.shape)
    (peaks,) = axes.findobj(PathCollection)
    np.testing.assert_array_equal(np.asarray(peaks.get_offsets())[:, ::-1], result.sites.position)


def test_a_constant_frame_without_peaks_is_drawn(rng):
    _, result = frame(rng, (32, 32), 40.0, classes=(), lattice_found=False)
    nothing = replace(
        result.sites,
        **{
            name: values[:0]
            for name in result.sites.__slots__
            if (values := getattr(result.sites, name)) is not None
        },
    )
    for level in (7.0, np.nan):
        figure = overlay_figure(np.full((32, 32), level), replace(result, sites=nothing))
        assert "no lattice found: 0 peaks" in words_of(figure)


def test_a_frame_before_learning_says_so(rng):
    image, result = frame(rng, classes=())
    assert "classes not learnt yet" in words_of(overlay_figure(image, result))


def test_distances_have_the_unit_that_is_known(learnt):
    image, result = learnt
    words = words_of(overlay_figure(image, result))
    assert "lattice constant 0.320 nm (16 px)" in words
    defects = [entry.class_id for entry in result.classes if entry.role == "defect"]
    assert f"{np.isin(result.sites.class_id, defects).sum() / 5.12**2:.3g} defects per nm²" in words
    assert "1 nm" in words.split("\n")
    words = words_of(overlay_figure(image, replace(result, pixel_size_nm=None)))
    assert "lattice constant 16 px" in words
    assert "50 px" in words.split("\n")
    assert "nm" not in words


def test_the_scale_bar_is_as_long_as_it_says(learnt):
    image, result = learnt
    axes = image_axes(overlay_figure(image, result), image.shape)
    bar = axes.collections[-1].get_datalim(axes.transData)
    assert bar.width * result.pixel_size_nm == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("limit", "length"),
    [
        (1.0, 1.0),
        (1.99, 1.0),
        (2.0, 2.0),
        (4.9, 2.0),
        (5.0, 5.0),
        (9.9, 5.0),
        (0.3, 0.2),
        (1e-3, 1e-3),
        (730, 500),
    ],
)
def test_scale_bars_have_round_lengths(limit, length):
    assert nice_length(limit) == pytest.approx(length)


def test_average_patches_of_a_sublattice_share_their_grey_levels(learnt):
    _, result = learnt
    figure = classes_figure(result)
    levels = {}
    for axes in figure.axes:
        for picture in axes.get_images():
            for entry in result.classes:
                if np.array_equal(picture.get_array(), entry.average):
                    levels.setdefault(entry.sublattice, set()).add(picture.get_clim())
    assert sorted(levels) == [0, 1]
    for sublattice, found in levels.items():
        assert len(found) == 1
        assert found == {
            (
                min(float(e.average.min()) for e in result.classes if e.sublattice == sublattice),
                max(float(e.average.max()) for e in result.classes if e.sublattice == sublattice),
            )
        }


def test_every_class_but_the_host_is_compared_with_its_host(learnt):
    _, result = learnt
    pictures = [picture for axes in classes_figure(result).axes for picture in axes.get_images()]
    for entry in result.classes:
        if entry.role == "host":
            continue
        difference = entry.average - result.classes[entry.host_class].average
        shown = [p for p in pictures if np.array_equal(p.get_array(), difference)]
        assert len(shown) == 1
        low, high = shown[0].get_clim()
        assert -low == high == pytest.approx(np.abs(difference).max())


def test_a_class_is_described_in_numbers_with_units(learnt):
    _, result = learnt
    entry = replace(result.classes[2], template="V_S", score=0.93, total=412)
    result = replace(result, classes=(*result.classes[:2], entry, *result.classes[3:]))
    words = words_of(classes_figure(result))
    n = int((result.sites.class_id == entry.class_id).sum())
    assert f"{entry.separation:.1f} σ" in words
    assert f"{n} sites in frame 0 · 412 so far" in words
    assert "looks like V_S · score 0.93 of 1" in words
    assert "24 × 24 px = 0.48 × 0.48 nm" in words


def test_every_site_of_the_layout_is_drawn_once(learnt):
    _, result = learnt
    figure = embedding_figure(result)
    widest = max(figure.axes, key=lambda axes: axes.get_window_extent().width)
    drawn = np.concatenate([np.asarray(c.get_offsets()) for c in widest.findobj(PathCollection)])
    assert len(drawn) == len(result.embedding)
    np.testing.assert_array_equal(np.sort(drawn, axis=0), np.sort(result.embedding, axis=0))


def test_counts_follow_the_frames_and_leave_gaps(rng):
    stack = [frame(rng, (96, 96), 12.0, number=k)[1] for k in (3, 4, 5, 9)]
    stack[1] = replace(stack[1], lattice_found=False)
    figure = counts_figure(stack)
    defects = [entry for entry in stack[0].classes if entry.role == "defect"]
    expected = [
        [np.nan if k == 1 else (result.sites.class_id == class_id).sum() for k, result in enumerate(stack)]
        for class_id in (*(entry.class_id for entry in defects), -1)
    ]
    drawn = [patch.get_data() for axes in figure.axes for patch in axes.patches[:1]]
    assert len(drawn) == len(expected)
    for row in expected:
        assert any(np.array_equal(data.values, row, equal_nan=True) for data in drawn)
    np.testing.assert_allclose(drawn[0].edges, [2.5, 3.5, 4.5, 7, 9.5])
    words = words_of(figure)
    assert "sites per frame" in words
    assert "frame number" in words
    assert_laid_out(figure)


def test_a_stack_in_which_no_frame_was_classified_is_all_gaps(learnt):
    _, result = learnt
    lost = replace(result, lattice_found=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words = words_of(counts_figure([lost, replace(lost, number=1)]))
    assert "gaps: nothing was classified" in words
    assert "not classified" in words.split("\n")


def happening(kind, number, track, latency_frames=0):
    data = DefectEventData(
        series_id="series-1",
        frame=number,
        t_received=0.0,
        model_version=1,
        track=track,
        class_id=2,
        class_name="A −20 %",
        role="defect",
        confidence=0.97,
        px=Pixel(row=20.0, col=20.0),
        sigma_px=0.1,
        latency_frames=latency_frames,
    )
    return EventDraft(kind, data)


def test_the_statistics_of_a_stack_are_those_of_its_events(rng):
    result = frame(rng, (160, 160), 12.0)[1]
    events = {
        0: [happening("defect.appeared", 0, 5), happening("defect.appeared", 0, 6)],
        10: [happening("defect.appeared", 10, 7, latency_frames=2)],
        30: [happening("defect.disappeared", 30, 7)],
    }
    stack = [replace(result, number=k, events=tuple(events.get(k, ()))) for k in range(41)]
    stack[20] = replace(stack[20], lattice_found=False)
    found = statistics_summary(stack)
    assert (found["frames_classified"], found["found_at_first_sight"]) == (40, 2)
    appeared = found["events"]["appeared"]
    assert (appeared["n"], appeared["per_frame"]) == (1, 1 / 40)
    assert appeared["per_nm2_per_frame"] == pytest.approx(1 / 40 / (160 * 0.02) ** 2)
    assert found["lifetime"]["median_frames"] == 22.0
    defects = int((result.sites.role == ROLES.index("defect")).sum())
    assert found["lifetime"]["mean_frames"] == 40.0 * defects
    assert found["nearest_defect_nm"]["n"] == defects
    figure = statistics_figure(stack)
    words = words_of(figure)
    assert "2 defects there at first sight" in words.replace("\u00a0", " ")
    assert "frames since the first" in words
    assert "distance [nm]" in words
    assert_laid_out(figure)


def test_statistics_of_a_quiet_stack_say_that_nothing_happened(rng):
    result = frame(rng, (96, 96), 12.0, odd_share=0.0)[1]
    words = words_of(statistics_figure([result, replace(result, number=1)]))
    assert "fewer than two defects" in words
    assert "no defect disappeared" in words


def test_a_class_that_was_found_late_is_counted(rng):
    early, late = frame(rng, (96, 96), 12.0)[1], frame(rng, (96, 96), 12.0, number=1)[1]
    figure = counts_figure([replace(early, classes=early.classes[:2]), late])
    assert late.classes[2].name in words_of(figure)


def test_classes_of_one_colour_differ_in_shape():
    looks = class_looks(catalogue(30, 0))
    assert len({(look.colour, look.marker) for k, look in looks.items() if k > 1}) == 30


def test_text_that_does_not_fit_ends_in_an_ellipsis():
    page = Page()
    for name in LONG:
        lines = page.wrapped(name, 1.2, 8.0, "bold")
        assert 1 <= len(lines) <= 2
        assert all(page.text_width(line, 8.0, "bold") <= 1.2 for line in lines)
        assert lines[-1].endswith("…") or "".join(lines).replace(" ", "") == name.replace(" ", "")


def test_without_classes_there_is_nothing_to_draw_but_the_frame(tmp_path, rng):
    image, result = frame(rng, classes=())
    for draw in (
        classes_figure,
        embedding_figure,
        lambda r: counts_figure([r, r]),
        lambda r: statistics_figure([r, r]),
    ):
        with pytest.raises(NotLearntError):
            draw(result)
    assert [path.name for path in save_figures(tmp_path, [result], image)] == ["overlay.png"]


def test_saved_figures_are_png_of_the_stated_width(tmp_path, learnt):
    image, result = learnt
    written = save_figures(tmp_path, [result, replace(result, number=1)], image)
    assert [path.name for path in written] == [
        "overlay.png",
        "classes.png",
        "embedding.png",
        "counts.png",
        "statistics.png",
    ]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    for path in written:
        head = path.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert abs(int.from_bytes(head[16:20], "big") - 1600) <= 1


def test_matplotlib_is_imported_when_a_figure_is_drawn_and_pyplot_never():
    program = (
        "import sys, latticewatch.offline._figures\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from latticewatch.offline._style import Page\n"
        "Page()\n"
        "assert 'matplotlib.figure' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_counts_of_a_stack_are_those_of_each_frame_until_points_are_used_up(monkeypatch):
    monkeypatch.setattr(counting, "POINTS", 8)
    rng = np.random.default_rng(0)
    frames = [rng.integers(-1, 3, 20) if n % 5 else None for n in range(37)]
    counts, short = counting.Counts(), counting.Counts()
    for n, class_id in enumerate(frames):
        counts.add(10 + n, class_id)
        if n < 8:
            short.add(10 + n, class_id)
    known = [None if ids is None else int((ids == 2).sum()) for ids in frames]
    assert np.array_equal(short.course(2), np.array(known[:8], float), equal_nan=True)
    assert np.array_equal(short.edges, np.arange(9.5, 18))
    assert (len(counts), counts.numbers) == (37, (10, 46))
    together = [[n for n in known[k : k + 8] if n is not None] for k in range(0, 37, 8)]
    assert np.allclose(counts.course(2), [np.mean(part) for part in together])
    assert np.array_equal(counts.edges, [9.5, 17.5, 25.5, 33.5, 41.5, 46.5])
    assert counts.mean(2) == pytest.approx(np.mean([n for n in known if n is not None]))
    assert counts.course(7).sum() == 0
