"""The analysis, imported and compiled while the service already answers, and what it is doing meanwhile."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import structlog

from latticewatch.config import AnalysisSettings
from latticewatch.execute._parts import Analyse, FrameLearner

log = structlog.get_logger(__name__)


class StoppedError(Exception):
    """The service was told to stop before it was ready."""


def prepare(
    settings: AnalysisSettings,
    tell: Callable[[str], None],
    loaded: Callable[[], None],
    stopping: Callable[[], bool],
) -> tuple[FrameLearner, Analyse]:
    """Import the pipeline and take a small frame through it.

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

    Returns
    -------
    learner : FrameLearner
        A new one.
    analyse : callable
        What to analyse frames with.

    Raises
    ------
    StoppedError
        ``stopping()`` was true.
    """
    start = time.perf_counter()
    tell("loading the analysis")
    from numba.core import event

    from latticewatch import pipeline

    loaded()

    class Compilations(event.Listener):
        n = 0

        def on_start(self, event: event.Event) -> None:  # noqa: ARG002
            if stopping():
                raise StoppedError
            if not self.n:
                log.info("compiling kernels, which takes a minute; later starts load them from the cache")
            self.n += 1
            tell(f"compiling kernels, {self.n} so far; later starts load them from the cache")

        def on_end(self, event: event.Event) -> None:
            pass

    compilations = Compilations()
    with event.install_listener("numba:compile", compilations):
        pipeline.warm(settings)
    loaded()
    if stopping():
        raise StoppedError
    # A full collection looks at a quarter of a million objects of the libraries, and stops every thread for a tenth of
    # a second. They stay as long as the process: it need not look at them again.
    gc.freeze()
    log.info("analysis ready", seconds=round(time.perf_counter() - start, 1), compiled=compilations.n)
    return pipeline.Learner(settings), pipeline.analyse
