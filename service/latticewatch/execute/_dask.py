"""Frames analysed by the workers of a Dask cluster: sent ahead, the model once per version; lost ones run again.

Everything that goes to a worker or comes from one does so on the client's event loop: whoever submits a frame does not
wait until a busy worker has taken it, and an analysis that is ready is fetched while the one before it is folded.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from latticewatch.config import AnalysisSettings
from latticewatch.errors import ConfigurationError
from latticewatch.execute._carried import completed, keep_freed_memory, lightened
from latticewatch.execute._executors import MOST_SLOTS
from latticewatch.execute._workers import TooSlowError
from latticewatch.ingest import Frame

if TYPE_CHECKING:
    from concurrent.futures import Future as Promise

    from distributed import Future

# How long to wait for the scheduler when the run begins, and for the cluster to let go when it ends [s].
CONNECT_S, CLOSE_S = 10.0, 2.0
# How long a worker may take to accept a frame, and an analysis that is ready to arrive; what takes longer is sent
# again. A worker that compiles kernels answers nobody meanwhile [s].
HAND_OVER_S = 30.0
# Frames that each thread of a worker has at once: the one that it analyses, the next, which is there already, and one
# on its way, either way.
AHEAD = 3
# How often a frame is sent: one that was lost with so many workers is what kills them.
MOST_SENDINGS = 3
# Versions of the model that frames under way may still need.
VERSIONS_KEPT = 4
# How often it is looked whether a frame is still wanted, and how long to wait for a cluster without workers [s].
LOOK_S = 0.1
# For how long it is believed which workers there are [s].
WORKERS_KNOWN_S = 1.0

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
        self.carried: Promise[tuple[Any, float]] | None = None

    def cancel(self) -> bool:
        """Do not wait for it; what runs already ends unheard."""
        if self.carried is not None:
            self.carried.cancel()
        return True

    def result(self, limit_s: float | None, waiting: Callable[[], bool] = lambda: True) -> Any:
        """The analysis, with the frame, the picture and the model of this process in it.

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
        assert self.carried is not None
        start = time.monotonic()
        while not _done(self.carried, LOOK_S):
            if not waiting() or (limit_s is not None and time.monotonic() - start > limit_s):
                self.abandoned = True
                self.cancel()
                raise TooSlowError(
                    f"analysis took longer than {time.monotonic() - start:.1f} s on the cluster, and was abandoned"
                )
        analysis, self.seconds = self.carried.result()
        return completed(analysis, self.frame, self.model)


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
        # Only the client's event loop touches what follows.
        self._under_way: Counter[str] = Counter()
        self._workers: tuple[float, dict[str, int]] = 0.0, {}
        self._models: OrderedDict[int, tuple[Any, dict[str, asyncio.Task[Future]]]] = OrderedDict()
        self._jobs: set[asyncio.Task[Any]] = set()
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
        """Have a frame sent, and its analysis fetched as soon as it is ready; waits for neither."""
        job = DaskJob(self, frame, model)
        job.carried = self._on_loop(self._carry(frame, model))
        return job

    def replace(self, job: DaskJob) -> None:
        """Nothing: a cancelled task keeps at most a thread of a worker busy."""

    def close(self) -> None:
        """Leave the cluster; its workers go on."""
        with suppress(TimeoutError):
            self._on_loop(self._drop_all()).result(CLOSE_S)
        self._client.close(timeout=CLOSE_S)

    def _on_loop(self, what: Any) -> Promise[Any]:
        return asyncio.run_coroutine_threadsafe(what, self._client.loop.asyncio_loop)

    async def _drop_all(self) -> None:
        for task in self._jobs:
            task.cancel()
        self._models.clear()

    async def _carry(self, frame: Frame, model: Any) -> tuple[Any, float]:
        """Analysis and seconds of a frame, which is sent until it is analysed, or three times."""
        mine = asyncio.current_task()
        assert mine is not None
        self._jobs.add(mine)
        sendings = 0
        try:
            while True:
                worker = await self._least_busy(frame)
                self._under_way[worker] += 1
                try:
                    future = await self._sent(frame, model, worker)
                    if future is not None:
                        sendings += 1
                        return await self._fetched(future)
                except Exception as error:
                    if not _of_the_cluster(error) or sendings >= MOST_SENDINGS:
                        raise
                    _log.warning(
                        "a frame was lost on the cluster; sent again", frame=frame.number, error=repr(error)
                    )
                finally:
                    self._under_way[worker] -= 1
                    self._under_way += Counter()
                self._workers = 0.0, {}
                await asyncio.sleep(LOOK_S)
        finally:
            self._jobs.discard(mine)

    async def _least_busy(self, frame: Frame) -> str:
        """The worker with the fewest of our frames to a thread; waits until there is one."""
        told = False
        while True:
            known, workers = self._workers
            if not workers or time.monotonic() - known > WORKERS_KNOWN_S:
                try:
                    async with asyncio.timeout(HAND_OVER_S):
                        workers = await self._client.scheduler.ncores_running(workers=None)
                except (OSError, TimeoutError) as error:
                    workers, told = {}, told or _take_no_frame(frame, error)
                self._workers = time.monotonic(), workers
            if workers:
                return min(workers, key=lambda one: (self._under_way[one] / max(workers[one], 1), one))
            told = told or _take_no_frame(frame, "it has no worker")
            await asyncio.sleep(LOOK_S)

    async def _sent(self, frame: Frame, model: Any, worker: str) -> Future | None:
        """A task for a frame that has arrived at a worker; None where the worker did not take it."""
        try:
            async with asyncio.timeout(HAND_OVER_S):
                image, there = await asyncio.gather(
                    self._at(worker, frame.image), self._model_at(worker, model)
                )
        except (OSError, TimeoutError, CancelledError, ValueError, RuntimeError) as error:
            _take_no_frame(frame, error)
            return None
        # without its pixels, which are there already
        about = replace(frame, image=frame.image[:0, :0])
        return self._client.submit(
            analyse_there,
            about,
            image,
            there,
            self._settings,
            pure=False,
            priority=-frame.ordinal,
            workers=[worker],
            allow_other_workers=True,
        )

    def _at(self, worker: str, what: Any) -> Any:
        """Awaitable: something that was brought to a worker."""
        return self._client.scatter(what, workers=[worker], direct=True, hash=False, asynchronous=True)

    async def _model_at(self, worker: str, model: Any) -> Future | None:
        """The model at a worker, where each version is brought once."""
        if model is None:
            return None
        _, there = self._models.setdefault(id(model), (model, {}))
        while len(self._models) > VERSIONS_KEPT:
            self._models.popitem(last=False)
        sent = there.get(worker)
        if sent is None or (sent.done() and not _arrived(sent)):
            sent = there[worker] = asyncio.ensure_future(self._at(worker, model))
        # a frame that is cancelled meanwhile does not keep it from the others
        return await asyncio.shield(sent)

    async def _fetched(self, future: Future) -> tuple[Any, float]:
        """What a task gave, fetched as soon as it is done."""
        done = asyncio.ensure_future(_finished(future))
        try:
            # lost with its worker, it would be waited for without end
            while not (await asyncio.wait({done}, timeout=LOOK_S))[0]:
                if future.status in ("cancelled", "lost"):
                    raise CancelledError(f"{future.key} went with its worker")
            await done
            # the client fetches for several frames at once: one that is cancelled does not keep it from the others
            fetched = asyncio.ensure_future(self._client.gather(future, direct=True, asynchronous=True))
            async with asyncio.timeout(HAND_OVER_S):
                return await asyncio.shield(fetched)
        except asyncio.CancelledError:
            await self._client.cancel([future], asynchronous=True, reason="no longer wanted")
            raise
        finally:
            done.cancel()

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
        See `lightened`.
    seconds : float
        What it took.
    """
    from latticewatch.parallel import cores, working
    from latticewatch.pipeline import analyse

    _settle()
    start = time.perf_counter()
    # The other cores belong to other workers.
    with working(max(cores() - 1, 0)):
        analysis = analyse(replace(about, image=image), model, settings)
    return lightened(analysis, picture=False), time.perf_counter() - start


def _settle() -> None:
    """What a worker needs once; one that other people's tasks use, too, keeps its settings otherwise."""
    global _limits
    if _limits is None:
        from threadpoolctl import threadpool_limits

        # As in the service: the number of threads must not decide how sums are rounded.
        _limits = threadpool_limits(limits=1, user_api="blas")
        keep_freed_memory()


_limits: Any = None


async def _finished(future: Future) -> None:
    """Wait for a task without fetching what it gave; raises what it raised."""
    error = await future.exception()  # type: ignore[misc]
    if error is not None:
        raise error


def _arrived(sent: asyncio.Task[Future]) -> bool:
    """Whether what was brought to a worker is still there."""
    lost = sent.cancelled() or sent.exception() is not None
    return not lost and sent.result().status not in ("cancelled", "lost", "error")


def _take_no_frame(frame: Frame, why: object) -> bool:
    _log.warning("the cluster takes no frame; tried again", frame=frame.number, error=str(why) or repr(why))
    return True


def _done(promise: Promise[Any], timeout: float) -> bool:
    """Whether it is, at most so many seconds from now."""
    return bool(wait([promise], timeout).done)


def _of_the_cluster(error: BaseException | None) -> bool:
    """Whether something went wrong on the way, not in the analysis."""
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    return isinstance(error, (KilledWorker, CommClosedError, CancelledError, TimeoutError))
