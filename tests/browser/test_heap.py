"""Half an hour at twenty messages a second: what the page keeps does not grow."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from _canvas import wait_for_frame
from _heap import course
from _stand_in import ws2

from conftest import Rig

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(5400)]

MESSAGES = 36_000
FULL = 4000  # by then the frames that are kept have their most
FRAME_PX = 256
LOST = ("ERR_CONNECTION_REFUSED", "WebSocket connection to")  # when its service stops, at the end


def test_the_heap_is_flat_over_36000_messages(tmp_path: Path, browser, open_tab):
    specimen = ws2(FRAME_PX, np.random.default_rng(1))
    rig = Rig(tmp_path, specimen, {}, ingest={"stall_after_s": 600})
    rig.microscope.send()
    page = open_tab(rig.url, tolerate=LOST).page
    wait_for_frame(page, 1)
    found = []
    for one in course(browser, page, rig, np.linspace(FULL, MESSAGES, 9).astype(int).tolist()):
        sys.stdout.write(f"{one}\n")
        found.append(one)
    rig.stop()
    rig.microscope.close()
    for heap in ("page_mb", "worker_mb"):
        values = [one[heap] for one in found]
        # the usual size of the second half beside that of the first
        half = len(values) // 2
        assert np.median(values[half:]) <= 1.05 * np.median(values[:half]), values
