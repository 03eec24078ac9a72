"""The analysis, imported and compiled while the service already answers, and what it is doing meanwhile."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator

import structlog

from latticewatch.config import AnalysisSettings
from latticewatch.execute._parts import Analyse, FrameLearner

log = structlog.get_logger(__name__)


class StoppedError(Exception):
    """The service was told to stop before it was ready."""


class _NotCachedError(Exception):
    """A kernel would have to be compiled."""


def prepare(
    settings: AnalysisSettings,
    tell: Callable[[str], None],
    loaded: Callable[[], None],
    stopping: Callable[[], bool],
    kept: bool = False,
) -> tuple[FrameLearner, Analyse, Callable[[], None]]:
    """Import the pipeline and take a small frame through what the first frames need.

    Classes are discovered a few frames later, and what only that needs is left for later, too. Where kernels have to be
    compiled, at the first start on a machine, all of them are compiled here: otherwise frames would wait for it later.
    Where a model was kept, the first frame needs other kernels than those: it loads them by itself, from the cache.

    Parameters
    ----------
    settings : AnalysisSettings
        How frames will be analysed.
    tell : callable
        Called with what is being done, in a few words.
    loaded : callable
        Called when libraries were loaded, to say how many threads of their own they may use.
    stopping : callable
        Whether to give up; looked at before each kernel that has to be compiled.
    kept : bool
        Whether a model is there to go on with.

    Returns
    -------
    learner : FrameLearner
        A new one.
    analyse : callable
        What to analyse frames with.
    rest : callable
        Loads what is left, in a thread of its own while frames are taken; may raise `StoppedError`.

    Raises
    ------
    StoppedError
        ``stopping()`` was true.
    """
    start = time.perf_counter()
    n = 0

    def compiling() -> None:
        nonlocal n
        go_on()
        if not n:
            log.info("compiling kernels, which takes most of a minute; later starts load them from the cache")
            # a compiler leaves garbage, which need not be looked for in what was imported
            gc.freeze()
            gc.enable()
        n += 1
        tell(f"compiling kernels, {n} so far; later starts load them from the cache")

    def go_on() -> None:
        if stopping():
            raise StoppedError

    def rest() -> None:
        with _before_each_compilation(go_on):
            pipeline.warm(settings)
        gc.freeze()

    tell("loading the analysis")
    # What is imported stays: to look it all through for garbage, again and again while it grows, takes a tenth of the
    # time.
    gc.disable()
    try:
        from latticewatch import pipeline

        loaded()
        if not (kept and _all_cached(pipeline.last_kernel)):
            with _before_each_compilation(compiling):
                pipeline.warm_for_learning(settings)
                if n:
                    pipeline.warm(settings)
            loaded()
        go_on()
    finally:
        # A full collection looks at a quarter of a million objects of the libraries, and stops every thread for a tenth
        # of a second. They stay as long as the process: it need not look at them again.
        gc.freeze()
        gc.enable()
    log.info("analysis ready", seconds=round(time.perf_counter() - start, 1), compiled=n)
    return pipeline.Learner(settings), pipeline.analyse, rest


def compile_all(more: Callable[[], object] = lambda: None) -> tuple[int, float]:
    """Compile every kernel that frames go through and that is not in the cache.

    Parameters
    ----------
    more : callable, optional
        Runs further kernels.

    Returns
    -------
    n : int
        Kernels that were compiled.
    seconds : float
        What it took [s].
    """
    from latticewatch import pipeline

    n = 0

    def count() -> None:
        nonlocal n
        n += 1

    start = time.perf_counter()
    with _before_each_compilation(count):
        more()
        pipeline.warm()
    return n, time.perf_counter() - start


def _all_cached(last_kernel: Callable[[], object]) -> bool:
    """Whether the kernel that is compiled last was compiled before; it is not compiled here."""

    def refuse() -> None:
        raise _NotCachedError

    try:
        with _before_each_compilation(refuse):
            last_kernel()
    except _NotCachedError:
        return False
    return True


@contextlib.contextmanager
def _before_each_compilation(call: Callable[[], None]) -> Iterator[None]:
    """Call something before each kernel that is compiled in this thread, not one in the cache."""
    from numba.core import event

    thread = threading.get_ident()

    class Listener(event.Listener):
        def on_start(self, event: event.Event) -> None:  # noqa: ARG002
            if threading.get_ident() == thread:
                call()

        def on_end(self, event: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
