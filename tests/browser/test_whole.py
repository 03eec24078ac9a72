"""The whole of it and no stand-in: simulated microscope, service with the real pipeline, page in a real browser."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from _canvas import ALL_LOADED, marks_painted, on_screen, ring_radius, wait_for_frame, wait_until
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from playwright.sync_api import Page, expect
from scipy.spatial import ConvexHull, Delaunay, KDTree

from latticewatch.config import Settings
from latticewatch.pipeline import warm
from latticewatch.serve import Service
from latticewatch_simulator import FrameTruth, Simulation, SimulatorSettings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

SIZE_PX = 400
PIXEL_SIZE_NM = 0.02
SPACING_PX = 0.318 / PIXEL_SIZE_NM
# A third of the way to the next column is nearer to no other.
TOLERANCE_PX = 0.3 * SPACING_PX / np.sqrt(3)
# Nearer to the edge than half a patch there are no sites.
MARGIN_PX = 14
SPECIES = {"Fe", "Te+S", "S1", "V_S2"}
SPECIMEN: dict[str, Any] = {
    "material": "WS2",
    "shape": (SIZE_PX, SIZE_PX),
    "pixel_size_nm": PIXEL_SIZE_NM,
    "dose_e_per_a2": 2e5,
    "drift_nm_per_frame": (0.004, -0.003),
    "births_per_frame": 0.0,
    "fps": 5.0,
    "seed": 11,
}
PATIENCE_MS = 30_000
TEN_OR_MORE = re.compile(r"^\d{2,}$")
IN_SQUARES = re.compile(r"^[\d,]+ sites, frame \d+ in squares$")
NEW_NAME = "named by hand"
MANY = {"limit": 1000}
WALK = """(n) => Array.from({ length: n }, () => {
  document.getElementById("markers").dispatchEvent(new KeyboardEvent("keydown", { key: "n", bubbles: true }));
  return ["class", "role", "track", "px"].map((fact) => document.getElementById(`tip-${fact}`).textContent);
})"""


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    """A microscope that sends nothing before it is started."""
    settings = SimulatorSettings.checked(**SPECIMEN)
    with Simulation(settings, bind="tcp://127.0.0.1:0", control=None, push=True) as simulation:
        yield simulation


@pytest.fixture
def api(simulation: Simulation, tmp_path: Path) -> Iterator[httpx.Client]:
    """The service that receives the frames, as its API has it."""
    settings = Settings.model_validate(
        {
            "ingest": {"sources": (simulation.endpoint,), "socket": "pull", "mode": "lossless"},
            "analysis": {"learning_frames": 3},
            "serve": {"http": "127.0.0.1:0"},
            "record": {"data_dir": tmp_path},
        }
    )
    # the first start on a machine compiles the kernels, which takes longer than anybody waits for a page
    warm(settings.analysis)
    with Service(settings) as service, httpx.Client(base_url=service.url, timeout=20) as client:
        yield client


def test_the_page_shows_the_defects_of_the_specimen(simulation, api, open_tab):
    page = open_tab(str(api.base_url)).page
    expect(page.locator("#phase")).to_have_text("waiting", timeout=PATIENCE_MS)
    simulation.start()
    expect(page.locator("#phase")).to_have_text("live", timeout=PATIENCE_MS)
    expect(page.locator("#stat-frame")).to_have_text(TEN_OR_MORE, timeout=PATIENCE_MS)
    expect(page.locator("#phase")).to_have_text("live")
    the_space_is_live(page)

    # the last frame stays on the page, so page, service and specimen can be compared at leisure
    simulation.stop()
    expect(page.locator("#banner-text")).to_contain_text("series has ended", timeout=PATIENCE_MS)
    truth = simulation.newest.truth
    wait_for_frame(page, truth.number)
    frames = asked(api, "status")["frames"]
    assert frames["received"] == frames["analysed"] == truth.number + 1

    for role, n in asked(api, "counts")["by_role"].items():
        expect(page.locator(f"#count-{role}")).to_have_text(f"{n:,}")

    renamed = next(one["class_id"] for one in asked(api, "classes") if one["role"] == "defect")
    rename(page, renamed, NEW_NAME)
    tracks = asked(api, "tracks", role="defect", **MANY)["tracks"]
    classes = {one["class_id"]: one for one in asked(api, "classes")}
    assert classes[renamed]["name"] == NEW_NAME
    expect(page.locator(f'[data-class-id="{renamed}"] .class-name')).to_have_text(NEW_NAME)
    # Cards may leave out frames that come quickly; with a change of the catalogue they are written anew.
    for one in asked(api, "counts")["by_class"]:
        expect(page.locator(f'[data-count="{one["class_id"]}"]')).to_have_text(f"{one['n']:,}")
    class_of = defects_are_where_they_are(tracks, truth)
    # no two species are mostly of the same class
    assert len({Counter(found).most_common(1)[0][0] for found in class_of.values()}) == len(SPECIES)
    marks_are_those_of_the_service(page, tracks, classes)
    averages_are_loaded(page, len(classes))
    events_are_listed_once(page, asked(api, "events", after=0, **MANY)["events"])
    a_class_is_divided_and_put_together(page, api)


def a_class_is_divided_and_put_together(page: Page, api: httpx.Client) -> None:
    """Of two classes that were merged, draw round the points of one in the embedding, split it off, and undo."""
    defects = [one for one in asked(api, "classes") if one["role"] == "defect"]
    plane = asked(api, "embedding")
    pool, pool_class = np.array(plane["pool"]), np.array(plane["pool_class"])

    def others_within(one: dict[str, Any]) -> int:
        mine = pool_class == one["class_id"]
        return int((Delaunay(pool[mine]).find_simplex(pool[~mine]) >= 0).sum())

    common = sorted((one for one in defects if one["sublattice"] == 1), key=lambda one: -one["count"])[:2]
    # the one that lies apart can be drawn round
    gone, into = sorted(common, key=others_within)
    api.patch(f"/v1/classes/{into['class_id']}", json={"merge": [gone["class_id"]]}).raise_for_status()
    both = into["count"] + gone["count"]
    expect(page.locator(f'[data-count="{into["class_id"]}"]')).to_have_text(f"{both:,}")

    page.evaluate("document.getElementById('tab-layout').click()")
    layout = asked(api, "embedding")["layout"]
    canvas = page.locator("#embedding")
    expect(canvas).to_have_attribute("data-layout", str(layout), timeout=PATIENCE_MS)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    draw_round(page, box, pool, pool[pool_class == gone["class_id"]])
    lasso_is_for_everybody(page)
    with page.expect_response(f"**/v1/classes/{into['class_id']}/split") as answer:
        page.locator("#lasso").get_by_role("button", name=re.compile("^split .* off ")).click()
    assert answer.value.status == 200, answer.value.text()
    part = answer.value.json()
    assert part["count"] == pytest.approx(gone["count"], abs=2)
    expect(page.locator("#lasso")).to_contain_text(f"split off: {part['name']}")
    expect(page.locator(f'[data-count="{part["class_id"]}"]')).to_have_text(f"{part['count']:,}")
    expect(page.locator('[data-kind="class.split"]')).to_have_count(1)
    lasso_is_for_everybody(page)

    page.locator("#lasso").get_by_role("button", name="undo the last edit").click()
    expect(page.locator(f'[data-count="{part["class_id"]}"]')).to_have_count(0)
    expect(page.locator(f'[data-count="{into["class_id"]}"]')).to_have_text(f"{both:,}")
    assert part["class_id"] not in {one["class_id"] for one in asked(api, "classes")}


def lasso_is_for_everybody(page: Page) -> None:
    """At every size axe finds nothing wrong with the buttons."""
    size = page.viewport_size
    assert size is not None
    for width, height in ((1440, 900), (1024, 768), (2560, 1440), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        expect(page.locator("#lasso button").first).to_be_visible()
        violations = Axe().run(page, context="#lasso").response["violations"]
        assert [(one["id"], one["nodes"][0]["html"][:120]) for one in violations] == []
    page.set_viewport_size(size)


def draw_round(page: Page, box: Any, pool: NDArray[np.float64], some: NDArray[np.float64]) -> None:
    """Draw a line round the hull of some points with the mouse, as the embedding lays all of them out."""
    ordered = np.sort(pool, axis=0)
    trim = int(0.002 * len(pool))
    low, high = ordered[trim], ordered[len(pool) - 1 - trim]
    scale = ((np.array([box["width"], box["height"]]) - 28) / (high - low)).min()
    middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
    hull = some[ConvexHull(some).vertices]
    hull = hull + 3 / scale * (hull - hull.mean(0)) / np.linalg.norm(hull - hull.mean(0), axis=1)[:, None]
    corners = middle + (hull - (low + high) / 2) * scale * np.array([1, -1])
    page.mouse.move(*corners[-1])
    page.mouse.down()
    for x, y in corners:
        page.mouse.move(x, y)
    page.mouse.up()


def the_space_is_live(page: Page) -> None:
    """The embedding holds the newest frame, the next one too, and each sublattice has its components."""
    page.evaluate("document.getElementById('tab-layout').click()")
    size = page.locator("#embedding-size")
    expect(size).to_have_text(IN_SQUARES, timeout=PATIENCE_MS)
    expect(size).not_to_have_text(size.inner_text(), timeout=PATIENCE_MS)
    expect(page.locator("#components canvas")).to_have_count(2)
    expect(page.locator("#components canvas").first).to_have_attribute(
        "aria-label", re.compile(r"along their components \[σ²\]: [\d., ]+; noise reaches \d")
    )
    page.evaluate("document.getElementById('tab-classes').click()")


def asked(api: httpx.Client, resource: str, **query: Any) -> Any:
    return api.get(f"/v1/{resource}", params=query).raise_for_status().json()


def rename(page: Page, class_id: int, name: str) -> None:
    card = page.locator(f'[data-class-id="{class_id}"]')
    card.locator(".class-name").click()
    card.locator(".class-field").fill(name)
    with page.expect_response(f"**/v1/classes/{class_id}") as answer:
        card.locator(".class-field").press("Enter")
    assert answer.value.status == 200
    page.mouse.move(1, 1)  # a class that is pointed at makes the others step back


def places(tracks: list[dict[str, Any]]) -> NDArray[np.float64]:
    return np.array([(one["px"]["row"], one["px"]["col"]) for one in tracks])


def nearest_to(
    places: NDArray[np.float64], positions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """How far from each place the nearest position is, and which that is."""
    distance, index = KDTree(positions).query(places)
    return np.asarray(distance), np.asarray(index)


def defects_are_where_they_are(tracks: list[dict[str, Any]], truth: FrameTruth) -> dict[str, list[int]]:
    """Hold tracks against the specimen; the classes that each species was found as."""
    wanted = truth.is_defect() & truth.inside(MARGIN_PX)
    species = np.array(truth.names)[truth.species[wanted]]
    assert set(species) == SPECIES
    distance, nearest = nearest_to(truth.positions_px()[wanted], places(tracks))
    found = distance < TOLERANCE_PX
    for name in SPECIES:
        assert np.mean(found[species == name]) >= 0.9, f"{name}: too many are missed"
    distance, column = nearest_to(places(tracks), truth.positions_px())
    assert np.mean((distance < TOLERANCE_PX) & truth.is_defect()[column]) >= 0.9
    return {
        name: [tracks[i]["class_id"] for i in nearest[found & (species == name)].tolist()] for name in SPECIES
    }


def marks_are_those_of_the_service(
    page: Page, tracks: list[dict[str, Any]], classes: dict[int, dict[str, Any]]
) -> None:
    """Walk from mark to mark with the keyboard, and look at the ring around each."""
    n = sum(int(page.inner_text(f"#count-{role}")) for role in ("defect", "unknown"))
    shown = {
        tuple(map(float, re.findall(r"[\d.]+", px))): (name, track)
        for name, role, track, px in page.evaluate(WALK, n)
        if role == "defect"
    }
    page.keyboard.press("Escape")
    assert len(shown) == len(tracks)
    distance, mark = nearest_to(places(tracks), np.array(list(shown)))
    assert distance.max() < 0.1  # the page rounds to that
    texts = list(shown.values())
    for one, text in zip(tracks, (texts[i] for i in mark.tolist()), strict=True):
        assert text == (one["class_name"], str(one["track"]) if one["track"] >= 0 else "none yet")

    points, scale = on_screen(page, places(tracks), SIZE_PX)
    looks = [classes[one["class_id"]] for one in tracks]
    colours, shapes = [one["colour"] for one in looks], [one["shape"] for one in looks]
    painted = marks_painted(page, points, ring_radius(SPACING_PX, scale), colours, shapes)
    # rings of defects side by side cross
    assert np.mean(painted > 0.8) >= 0.9
    # and what is doubtful is drawn faint
    sure = np.array([one["confidence"] for one in tracks]) > 0.9
    assert painted[sure].min() > 0.3


def averages_are_loaded(page: Page, n: int) -> None:
    expect(page.locator(".class-card img.patch")).to_have_count(n)
    wait_until(page, ALL_LOADED)


def events_are_listed_once(page: Page, events: list[dict[str, Any]]) -> None:
    """Every event of the log has one row, newest first, and no defect appeared twice."""
    rows = page.locator("#events > li")
    expect(rows).to_have_count(len(events))
    listed = rows.evaluate_all("rows => rows.map((row) => [Number(row.dataset.seq), row.dataset.kind])")
    assert listed == [[one["seq"], one["type"]] for one in reversed(events)]
    appeared = [one["data"]["track"] for one in events if one["type"] == "defect.appeared"]
    texts = page.locator('[data-kind="defect.appeared"]').all_text_contents()
    assert all(text.startswith("defect ") for text in texts)
    tracks = [int(re.findall(r"track (\d+)", text)[0]) for text in texts]
    assert tracks == appeared[::-1]
    assert len(set(tracks)) == len(tracks) > 50
