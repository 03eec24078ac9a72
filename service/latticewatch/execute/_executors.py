"""Where frames are analysed: in threads of this process, in processes of this machine, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from latticewatch.config import AnalysisSettings
from latticewatch.execute._parts import Analyse
from latticewatch.execute._workers import Job, Workers
from latticewatch.ingest import Frame

# Frames that any executor has under way at once, at most.
MOST_SLOTS = 14


class Pending(Protocol):
    """One analysis, waiting, running or done."""

    @property
    def seconds(self) -> float:
        """What it took, once it is done [s]."""
        ...

    def result(self, limit_s: float | None, waiting: Callable[[], bool] = ...) -> Any:
        """What it gives; raises `TooSlowError` when it takes longer, or is no longer wanted."""
        ...

    def cancel(self) -> bool:
        """Do not begin it; false where it has begun."""
        ...


class Executor(Protocol):
    """Analyses frames side by side, in any order."""

    @property
    def slots(self) -> int:
        """Frames that it should have at once, so that it is never idle; at most `MOST_SLOTS`."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether only a restart of the process helps."""
        ...

    @property
    def hanging(self) -> int:
        """Abandoned analyses that still run."""
        ...

    def submit(self, frame: Frame, model: Any) -> Pending:
        """Have a frame analysed with a model; never waits for it, and never raises because of it.

        Parameters
        ----------
        frame : Frame
        model : Model or None
            None while nothing is learnt.

        Returns
        -------
        Pending
        """
        ...

    def replace(self, job: Any) -> None:
        """Put something else in the place of what an abandoned job runs in.

        Parameters
        ----------
        job : Pending
            As `submit` returned it.
        """
        ...

    def close(self) -> None: ...


def executor_of(settings: AnalysisSettings, analyse: Analyse) -> Executor:
    """The executor that the settings name.

    Parameters
    ----------
    settings : AnalysisSettings
    analyse : callable
        ``analyse(frame, model, settings)``, where it runs in this process.

    Returns
    -------
    Executor

    Raises
    ------
    ConfigurationError
        A cluster that does not answer, or does not fit.
    """
    if settings.executor == "threads":
        return Threads(analyse, settings)
    if settings.executor == "processes":
        from latticewatch.execute._processes import Processes

        return Processes(analyse, settings)
    from latticewatch.execute._dask import DaskCluster

    return DaskCluster(settings.executor, settings)


class Threads:
    """Threads of this process.

    Parameters
    ----------
    analyse : callable
        ``analyse(frame, model, settings)``.
    settings : AnalysisSettings
    """

    def __init__(self, analyse: Analyse, settings: AnalysisSettings) -> None:
        self._analyse, self._settings = analyse, settings
        self._workers = Workers(settings.threads)
        # One more than there are threads: while the oldest is folded, none of them waits for work.
        self.slots = min(settings.threads + 1, MOST_SLOTS)

    def submit(self, frame: Frame, model: Any) -> Job:
        """Have a frame analysed in one of the threads.

        Parameters
        ----------
        frame : Frame
        model : Model or None
            None while nothing is learnt.

        Returns
        -------
        Job
        """
        return self._workers.submit(self._analyse, frame, model, self._settings)

    def replace(self, job: Job) -> None:
        """Leave the thread behind that a job hangs in, and start another one.

        Parameters
        ----------
        job : Job
            As `submit` returned it.
        """
        self._workers.replace(job)

    @property
    def exhausted(self) -> bool:
        """Whether more threads hang than may."""
        return self._workers.exhausted

    @property
    def hanging(self) -> int:
        """Threads left behind that still run."""
        return self._workers.left_behind

    def close(self) -> None:
        """Let the threads end when they have nothing left to do."""
        self._workers.close()
