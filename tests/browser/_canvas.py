"""What the page shows: where a site lies on the screen, which colour is there, and whether it is so yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

# The canvas belongs to a worker: what it shows is copied before it is read.
CANVAS = """([id, points]) => {
  const canvas = document.getElementById(id);
  const ratio = canvas.width / canvas.clientWidth;
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const pixel = (x, y) => [...context.getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data];
  return points.map(([x, y]) => pixel(x, y));
}"""

ALL_LOADED = "[...document.querySelectorAll('img.patch')].every((image) => image.naturalWidth > 0)"
WAIT_UNTIL = """async () => {
  const end = performance.now() + 10_000;
  while (!(CONDITION)) {
    if (performance.now() > end) throw new Error("not so after 10 s");
    await new Promise(requestAnimationFrame);
  }
}"""


def on_screen(page: Page, positions: NDArray[Any], frame_px: int) -> tuple[NDArray[Any], float]:
    """Where sites lie on the canvas [CSS px], and the scale, while the whole frame is shown."""
    box = page.locator("#markers").bounding_box()
    assert box is not None
    scale = min(box["width"], box["height"]) / frame_px
    left, top = (box["width"] - frame_px * scale) / 2, (box["height"] - frame_px * scale) / 2
    return np.stack([left + (positions[:, 1] + 0.5) * scale, top + (positions[:, 0] + 0.5) * scale], 1), scale


def pixels(page: Page, canvas: str, points: NDArray[Any]) -> NDArray[Any]:
    """Red, green, blue and opacity of a canvas at points (x, y) [CSS px]."""
    return np.array(page.evaluate(CANVAS, [canvas, points.tolist()]))


def ring_radius(spacing_px: float, scale: float) -> float:
    """Radius of a defect's ring [CSS px] at a lattice constant [frame px]."""
    return min(30, max(5, 0.34 * spacing_px * scale))


# Corners of the shapes of radius 1: how many, where the first one is, how far out.
CORNERS = {
    "up": (3, -np.pi / 2, 1.25),
    "down": (3, np.pi / 2, 1.25),
    "diamond": (4, 0.0, 1.18),
    "square": (4, np.pi / 4, 1.25),
    "hexagon": (6, 0.0, 1.1),
}


def outline(shape: str, radius: float) -> NDArray[Any]:
    """24 points (x, y) on the outline of a mark."""
    if shape == "circle":
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        return radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    n, turn, out = CORNERS[shape]
    angles = turn + 2 * np.pi * np.arange(n + 1) / n
    corners = out * radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    along = np.linspace(0, n, 24, endpoint=False)
    side, share = along.astype(int), (along % 1)[:, None]
    return (1 - share) * corners[side] + share * corners[side + 1]


def marks_painted(
    page: Page, points: NDArray[Any], radius: float, colours: Sequence[str], shapes: Sequence[str]
) -> NDArray[Any]:
    """Share of the outline of the mark at each point (x, y) that has its colour, as ``#rrggbb``."""
    # Marks lie on whole pixels, so the outline is within one pixel of where it is computed.
    outlines = np.stack([np.stack([outline(shape, radius + s) for s in (-1, 0, 1)]) for shape in shapes])
    samples = points[:, None, None] + outlines
    wanted = np.array([[*bytes.fromhex(colour[1:]), 255] for colour in colours])
    seen = pixels(page, "picture", samples.reshape(-1, 2)).reshape(*samples.shape[:3], 4)
    off = np.abs(seen - wanted[:, None, None]).max(axis=3).min(axis=1)
    return np.mean(off < 60, axis=1)


def wait_for_frame(page: Page, number: int) -> None:
    expect(page.locator("#frame-caption")).to_contain_text(f"frame {number} ")


def wait_until(page: Page, condition: str) -> None:
    """Wait until a JavaScript expression is true.

    Playwright's ``wait_for_function`` evaluates a string anew each time, which the page's Content-Security-Policy
    refuses from the second time on.
    """
    page.evaluate(WAIT_UNTIL.replace("CONDITION", condition))
