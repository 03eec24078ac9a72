"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

PROJECT = Path(__file__).resolve().parents[1]
WHOLE_PAGE = "test_whole"
OVER_REAL_SOCKETS = ("integration", "browser", "faults")

# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--faults N``: so many of what a test of faults does once or twice; ``--seed S``: others of them."""
    parser.addoption(
        "--faults", type=int, default=0, help="how many faults a test of them makes; few by default"
    )
    parser.addoption("--seed", type=int, default=0, help="where a test begins that takes many seeds")


def pytest_configure() -> None:
    """One thread of BLAS, as in the service and in `analyse`.

    The threads of several processes that share the tests wait for one another, and keep a core busy while they do: that
    took four times as long as the work.
    """
    # for libraries that are loaded later, and for other processes; then for what is loaded already
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threadpool_limits(limits=1)


@pytest.fixture(scope="session")
def project() -> Path:
    """Root of the clone."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of experimental frames (``real``) and simulated scenes (``truth``); skips where it is absent."""
    folder = Path(os.environ.get("LATTICEWATCH_TEST_DATA") or PROJECT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(
            f"no shared data at {folder}: point LATTICEWATCH_TEST_DATA at the folder with real/ and truth/"
        )
    return folder.resolve()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own name: the same in any order, different from test to test."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests over real sockets, processes and a browser depend on what else a machine does: each has a second try.

    That it was needed is told at the end, with an R: such a test wants mending.

    The page with the whole pipeline behind it comes last, with those over sockets: what it needs of compiled kernels is
    there by then, and is not compiled a second time beside them.
    """
    items.sort(key=lambda item: item.path.stem == WHOLE_PAGE)
    for item in items:
        if item.path.relative_to(PROJECT / "tests").parts[0] in OVER_REAL_SOCKETS:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the tests (``-n 2 --dist loadgroup``), those of one place stay together.

    A place is a file, so that the fixtures of a module are made once; all that drive a browser are one, and so are all
    others over sockets: they do not take the processor from one another. Groups by marker are not seen by xdist 3.8
    beside pytest 9.2, whose names of tests cannot be changed.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.split("::", 1)[0]
            folder = "integration" if Path(path).stem == WHOLE_PAGE else path.split("/")[1]
            return folder if folder in OVER_REAL_SOCKETS else path

    return ByPlace(config, log)
