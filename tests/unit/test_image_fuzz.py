"""Whatever images are given: sites, or a note why there are none, or one clear line; never a traceback.

``python -m pytest -m slow tests/unit/test_image_fuzz.py --faults 10000 --seed 0`` takes so many streams through.
"""

from __future__ import annotations

import pytest

from _any_image import KINDS, LARGEST, fault_of

# Each failed once: the kind, the seed, and the longest side of the images.
FAILED = [
    # columns that all lie below what is between them
    ("dead", 34),
    # a place between columns that symmetry maps onto a column of another grain
    ("noise", 274),
    # blocks without a column
    ("checks", 104),
]
MANY = 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_any_image_ends_in_a_result_or_one_clear_line(kind, tmp_path):
    assert fault_of(kind, 0, tmp_path, 80) is None


@pytest.mark.parametrize(("kind", "seed"), FAILED)
def test_what_failed_once_ends_in_a_result(kind, seed, tmp_path):
    assert fault_of(kind, seed, tmp_path, LARGEST) is None


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_any_of_ten_thousand_streams_ends_in_a_result_or_one_clear_line(request, tmp_path):
    first, n = request.config.getoption("--seed"), request.config.getoption("--faults") or MANY
    found = []
    for i in range(n):
        kind, seed = KINDS[i % len(KINDS)], first + i // len(KINDS)
        wrong = fault_of(kind, seed, tmp_path)
        if wrong:
            found.append(f"{kind}, seed {seed}: {wrong}")
    assert not found, "\n".join(found)
