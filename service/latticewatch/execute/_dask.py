"""Frames analysed by the workers of a Dask cluster: sent to them, the model once per version; lost ones run again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from latticewatch.config import AnalysisSettings
from latticewatch.errors import ConfigurationError
from latticewatch.execute._executors import MOST_SLOTS
from latticewatch.execute._workers import TooSlowError
from latticewatch.ingest import Frame

if TYPE_CHECKING:
    from distributed import Future

# How long to wait for the scheduler when the run begins, and for a worker to take a frame [s].
CONNECT_S, SCATTER_S = 10.0, 2.0
# And for an analysis that is ready to arrive; one whose worker has gone meanwhile is made again [s].
GATHER_S = 30.0
# Frames that each thread of a worker has at once: the one that it analyses, and the next, which is on its way.
AHEAD = 2
# How often a frame is sent: one that was lost with so many workers is what kills them.
MOST_SENDINGS = 3
# Versions of the model that frames under way may still need.
VERSIONS_KEPT = 4
# How often it is looked whether a frame is still wanted, and how long to wait for a cluster without workers [s].
LOOK_S = 0.1

_log = structlog.get_logger("latticewatch.execute")


class DaskJob:
    """One frame, sent to the cluster, and sent again when it is lost there.

    Parameters
    ----------
    executor : DaskCluster
    frame : Frame
    model : Model or None
    """

    def __init__(self, executor: DaskCluster, frame: Frame, model: Any) -> None:
        self._executor = executor
        self.frame, self.model = frame, model
        self.seconds = 0.0
        self.abandoned = False
        self.sendings = 0
        self.future: Future | None = None
        self.done = threading.Event()

    def cancel(self) -> bool:
        """Do not wait for it; what runs already ends unheard."""
        self._drop()
        return True

    def result(self, limit_s: float | None, waiting: Callable[[], bool] = lambda: True) -> Any:
        """The analysis, with the frame and the model of this process in it.

        Parameters
        ----------
        limit_s : float or None
            From when it is waited for [s]; None for as long as it takes.
        waiting : callable
            Whether it is still wanted; looked at ten times a second.

        Raises
        ------
        TooSlowError
            It took longer, or is no longer wanted, or the cluster has no worker.
        """
        start = time.monotonic()
        while True:
            if self.future is None:
                self._executor.send_lost()
            if self.future is not None and self.done.wait(LOOK_S):
                try:
                    return self._taken()
                except Exception as error:
                    if not _of_the_cluster(error) or self.sendings >= MOST_SENDINGS:
                        raise
                    _log.warning(
                        "a frame was lost on the cluster", frame=self.frame.number, error=repr(error)
                    )
                    self.future = None
                    continue
            if not waiting() or (limit_s is not None and time.monotonic() - start > limit_s):
                self.abandoned = True
                self._drop()
                raise TooSlowError(
                    f"analysis took longer than {time.monotonic() - start:.1f} s on the cluster, and was abandoned"
                )
            if self.future is None:
                time.sleep(LOOK_S)

    def _taken(self) -> Any:
        assert self.future is not None
        future: Any = self.future
        analysis, self.seconds = future.result(timeout=GATHER_S)
        self._executor.forget(self)
        # The learner compares lattices by identity, and the pixels never came back.
        image = analysis.image
        if self.model is not None:
            image = np.broadcast_to(np.float32(np.nan), self.frame.image.shape)
        return replace(analysis, frame=self.frame, model=self.model, image=image)

    def lost(self) -> bool:
        """Whether it went with its worker, or was never sent."""
        future = self.future
        if future is None or future.status in ("cancelled", "lost"):
            return True
        return future.status == "error" and _of_the_cluster(future.exception())  # type: ignore[arg-type]

    def _drop(self) -> None:
        future, self.future = self.future, None
        self._executor.forget(self)
        if future is not None:
            future.cancel(msg="no longer wanted")


class DaskCluster:
    """The workers of a Dask cluster.

    Parameters
    ----------
    address : str
        Of the scheduler, ``dask://HOST:8786``.
    settings : AnalysisSettings

    Raises
    ------
    ConfigurationError
        The package is not there, nobody answers, there is no worker, or one has another version of Latticewatch.
    """

    def __init__(self, address: str, settings: AnalysisSettings) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise ConfigurationError(
                f"executor {address}: needs the package distributed; install latticewatch[service,dask]"
            ) from error
        self._settings = settings
        self._lock = threading.RLock()
        self._jobs: OrderedDict[int, DaskJob] = OrderedDict()
        self._models: OrderedDict[int, tuple[Any, Future]] = OrderedDict()
        try:
            self._client: Any = Client(
                address.replace("dask://", "tcp://"),
                timeout=CONNECT_S,
                set_as_default=False,
                direct_to_workers=True,
                name="latticewatch",
            )
        except OSError as error:
            raise ConfigurationError(
                f"executor {address}: no scheduler answers within {CONNECT_S:g} s; start one with `dask scheduler`"
            ) from error
        try:
            threads = self._threads(address)
        except BaseException:
            self._client.close()
            raise
        self.slots = min(AHEAD * threads, MOST_SLOTS)

    @property
    def exhausted(self) -> bool:
        """Nothing that hangs in a worker hangs here."""
        return False

    @property
    def hanging(self) -> int:
        """Nothing that hangs in a worker hangs here."""
        return 0

    def submit(self, frame: Frame, model: Any) -> DaskJob:
        """Send a frame; where that fails now, it is tried again when its turn comes."""
        job = DaskJob(self, frame, model)
        with self._lock:
            self._jobs[id(job)] = job
            self._send(job)
        return job

    def replace(self, job: DaskJob) -> None:
        """Nothing: a cancelled task keeps at most a thread of a worker busy."""

    def forget(self, job: DaskJob) -> None:
        """It is done, or no longer wanted."""
        with self._lock:
            self._jobs.pop(id(job), None)

    def send_lost(self) -> None:
        """Send again what is under way and was lost, the oldest first."""
        with self._lock:
            for job in list(self._jobs.values()):
                if job.lost() and job.sendings < MOST_SENDINGS:
                    self._send(job)

    def close(self) -> None:
        """Leave the cluster; its workers go on."""
        with self._lock:
            for job in list(self._jobs.values()):
                job.cancel()
            self._models.clear()
        self._client.close(timeout=SCATTER_S)

    def _send(self, job: DaskJob) -> None:
        try:
            image = self._client.scatter(job.frame.image, direct=True, hash=False, timeout=SCATTER_S)
            model = self._scattered(job.model)
            # without its pixels, which are on their way to the worker already
            about = replace(job.frame, image=job.frame.image[:0, :0])
            future = self._client.submit(
                analyse_there, about, image, model, self._settings, pure=False, priority=-job.frame.ordinal
            )
        except (OSError, TimeoutError, CancelledError, ValueError, RuntimeError) as error:
            _log.warning(
                "the cluster takes no frame; tried again",
                frame=job.frame.number,
                error=str(error) or repr(error),
            )
            return
        if job.sendings:
            _log.warning("a frame was lost with its worker; sent again", frame=job.frame.number)
        job.sendings += 1
        job.done = done = threading.Event()
        job.future = future
        future.add_done_callback(lambda _: done.set())

    def _scattered(self, model: Any) -> Future | None:
        """The model on every worker, where it is sent once."""
        if model is None:
            return None
        known = self._models.get(id(model))
        if known is not None and known[1].status not in ("cancelled", "lost", "error"):
            return known[1]
        future = self._client.scatter(model, broadcast=True, direct=True, hash=False, timeout=SCATTER_S)
        self._models[id(model)] = (model, future)
        while len(self._models) > VERSIONS_KEPT:
            self._models.popitem(last=False)
        return future

    def _threads(self, address: str) -> int:
        """Threads of all workers, which have to have our version."""
        from latticewatch import __version__

        try:
            self._client.wait_for_workers(1, timeout=CONNECT_S)
        except TimeoutError as error:
            raise ConfigurationError(
                f"executor {address}: the cluster has no worker after {CONNECT_S:g} s; "
                "start one with `dask worker`"
            ) from error
        for worker, version in self._client.run(version_there, on_error="return").items():
            if version != __version__:
                raise ConfigurationError(
                    f"executor {address}: worker {worker} has latticewatch {version}, expected {__version__}; "
                    "install the same on all of them"
                )
        return sum(self._client.nthreads().values())


def version_there() -> str:
    """Version of Latticewatch, in a worker."""
    from latticewatch import __version__

    return __version__


def analyse_there(about: Frame, image: Any, model: Any, settings: AnalysisSettings) -> tuple[Any, float]:
    """Analyse a frame in a worker; what is not needed from there stays there.

    Parameters
    ----------
    about : Frame
        Without its pixels.
    image : ndarray of shape (height, width)
    model : Model or None
    settings : AnalysisSettings

    Returns
    -------
    analysis : Analysis
        Without frame and model; of a frame that was classified without its images and moments, which are three quarters
        of all bytes. The learner needs their shape alone; an image without background, which is wanted
        when classes are born, it makes again.
    seconds : float
        What it took.
    """
    from latticewatch.parallel import cores, working
    from latticewatch.pipeline import Classified, analyse

    _limit_blas()
    start = time.perf_counter()
    # The other cores belong to other workers.
    with working(max(cores() - 1, 0)):
        analysis = analyse(replace(about, image=image), model, settings)
    if model is not None:
        analysis = replace(analysis, image=analysis.image[:0, :0])
    if isinstance(analysis, Classified):
        survey, nothing = analysis.survey, analysis.survey.flat.image[:0, :0]
        survey = replace(survey, flat=replace(survey.flat, image=nothing), moments=survey.moments[:0])
        analysis = replace(analysis, survey=survey)
    return replace(analysis, frame=about, model=None), time.perf_counter() - start


def _limit_blas() -> None:
    """As in the service: the number of threads must not decide how sums are rounded."""
    global _limits
    if _limits is None:
        from threadpoolctl import threadpool_limits

        _limits = threadpool_limits(limits=1, user_api="blas")


_limits: Any = None


def _of_the_cluster(error: BaseException | None) -> bool:
    """Whether something went wrong on the way, not in the analysis."""
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    return isinstance(error, (KilledWorker, CommClosedError, CancelledError, TimeoutError))
