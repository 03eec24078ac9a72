"""A line that removes, doubles, reorders, truncates and damages messages, and keeps the account of what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from latticewatch.messages import encode_frame

FAULTS = ("removed", "doubled", "reordered", "truncated", "damaged")
SHAPE = (16, 16)


def image_of(number: int) -> np.ndarray:
    """An image that says which frame it is, in every pixel."""
    return np.full(SHAPE, number % 60_000, np.uint16)


def number_in(image: np.ndarray) -> int:
    """Which frame an image is, though a few of its bytes may be damaged."""
    return int(np.median(image))


def sent(number: int, counted: bool, picture: Callable[[int], np.ndarray] = image_of) -> list[bytes]:
    """A frame as its sender sends it."""
    fields = {"pixel_size_nm": 0.0106, "timeStamp": 1.8e9 + number / 10, "detector": "HAADF"}
    parts = encode_frame(picture(number), frame=number, series_id="scan 7", msg_number=number + 1, **fields)
    header, buffer = (bytes(part) for part in parts)
    return [header if counted else header.replace(f'"msg_number":{number + 1},'.encode(), b""), buffer]


def bad_line(
    n_frames: int,
    rate: float,
    rng: np.random.Generator,
    counted: bool,
    picture: Callable[[int], np.ndarray] = image_of,
    *,
    in_pixels: bool = True,
) -> Iterator[tuple[str, list[bytes]]]:
    """What arrives of so many frames, and what was done to each message; neither end is touched.

    Pixels that are damaged are said by nobody; without ``in_pixels`` only headers are.
    """
    number = 0
    while number < n_frames:
        fault = FAULTS[int(rng.integers(5))] if rng.random() < 5 * rate and 4 < number < n_frames - 6 else ""
        parts = sent(number, counted, picture)
        if fault == "doubled":
            yield "", parts
        elif fault == "reordered":
            number += 1
            yield "", sent(number, counted, picture)
        elif fault == "truncated":
            parts = [parts[0], parts[1][: int(rng.integers(len(parts[1])))]]
        elif fault == "damaged":
            # half of it in the header, which is a hundredth of a real message
            which = int(rng.integers(2)) if in_pixels else 0
            damaged = bytearray(parts[which])
            place = int(rng.integers(len(damaged)))
            damaged[place] = (damaged[place] + int(rng.integers(1, 256))) % 256
            if which == 0 and rng.random() < 0.7:  # a digit, which is worst
                digits = [i for i, byte in enumerate(parts[0]) if 48 <= byte <= 57]
                damaged = bytearray(parts[0])
                place = digits[int(rng.integers(len(digits)))]
                damaged[place] = 48 + (damaged[place] - 48 + int(rng.integers(1, 10))) % 10
            parts[which] = bytes(damaged)
        if fault != "removed":
            yield fault, parts
        else:
            yield fault, []
        number += 1


def tally(line: list[tuple[str, list[bytes]]]) -> Counter[str]:
    """How often each thing was done."""
    return Counter(fault for fault, _ in line if fault)
