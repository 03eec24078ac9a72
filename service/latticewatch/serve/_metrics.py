"""``/metrics``: the same accounting for Prometheus, read from the engine at the moment of the scrape."""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from latticewatch import __version__
from latticewatch.execute import LATENCY_BOUNDS_S, Engine, Operation
from latticewatch.serve._access import read_scope
from latticewatch.serve._hub import Hub, TheHub

TEXT_FORMAT = "text/plain; version=0.0.4"

router = APIRouter(tags=["probes"], dependencies=[Depends(read_scope)])


class HubCollector(Collector):
    """Everything that is counted of one service.

    Parameters
    ----------
    hub : Hub
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now."""
        engine = self._hub.engine
        operation = engine.operation
        yield from _process(engine, operation)
        yield from _frames(engine, operation)
        yield from _events(engine, operation)
        yield from _picture(engine)
        yield from _recording(engine)
        yield from _times(engine)
        listeners = self._hub.news.listeners
        yield _gauge(
            "listeners", "Live pages, followers of events, and requests that wait for some.", listeners
        )


def _process(engine: Engine, operation: Operation) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "latticewatch_info", "Always 1; the labels say what runs.", labels=["version", "python", "source"]
    )
    info.add_metric([__version__, platform.python_version(), engine.source], 1)
    yield info
    yield _gauge("degraded", "1 while something keeps it from its work.", engine.trouble is not None)
    yield _gauge("threads", "Threads of the process.", threading.active_count())
    yield _gauge(
        "threads_hanging", "Threads left behind in an analysis that took too long.", operation.hanging
    )


def _frames(engine: Engine, operation: Operation) -> Iterator[Metric]:
    frames = engine.receiver.counts()
    yield _counter("frames_received", "Frames received.", frames.received)
    yield _counter("frames_analysed", "Frames analysed.", frames.analysed)
    yield _by("reason", "frames_dropped", "Frames received but not analysed.", frames.dropped)
    yield _counter("frames_lost_upstream", "Frames numbered but never received.", frames.lost_upstream)
    yield _by("reason", "messages_rejected", "Messages that could not be read.", frames.rejected)
    yield _gauge("frames_in_flight", "Frames received and not yet accounted for.", frames.in_flight)
    yield _gauge("frames_at_work", "Frames that are analysed, or wait to be folded.", operation.queued)
    if engine.last_frame_age_s is not None:
        yield _gauge("last_frame_age_seconds", "Since the last frame was received.", engine.last_frame_age_s)
    yield _gauge("stalled", "1 while an open series gives no frame.", engine.state.stalled)


def _events(engine: Engine, operation: Operation) -> Iterator[Metric]:
    yield _counter("events", "Events in the log, those of earlier starts included.", engine.log.last_seq)
    yield _by("type", "events_told", "Events stored since the start.", operation.told)
    yield _counter("writes_failed", "Attempts to write the event log that failed.", operation.writes_failed)
    yield _gauge(
        "events_waiting", "Events that wait for a log that cannot be written.", operation.events_waiting
    )
    yield _counter("events_lost", "Events dropped because too many waited.", operation.events_lost)
    yield _gauge("event_log_bytes", "Size of the event log on disk.", getattr(engine.log, "size_bytes", 0))
    yield _gauge("checkpoint_age_seconds", "Since what was learnt was last stored.", operation.stored_age_s)


def _picture(engine: Engine) -> Iterator[Metric]:
    state = engine.state
    yield _gauge("model_version", "Model in force.", state.model_version)
    yield _by("role", "sites", "Sites in the newest frame.", state.role_counts, GaugeMetricFamily)
    roles = [entry.role for entry in state.catalogue]
    counts = {role: roles.count(role) for role in dict.fromkeys(roles)}
    yield _by("role", "classes", "Classes in the catalogue.", counts, GaugeMetricFamily)


def _recording(engine: Engine) -> Iterator[Metric]:
    recording = engine.status().recording
    if recording is not None:
        yield _counter("frames_recorded", "Frames recorded.", recording.recorded)
        yield _by("reason", "frames_not_recorded", "Analysed, but not recorded.", recording.skipped)


def _times(engine: Engine) -> Iterator[Metric]:
    bounds = [*(str(bound) for bound in LATENCY_BOUNDS_S), "+Inf"]
    cumulative, total_s = engine.meter.histogram()
    yield HistogramMetricFamily(
        "latticewatch_latency_seconds",
        "From a frame received to its events readable.",
        buckets=list(zip(bounds, cumulative, strict=True)),
        sum_value=total_s,
    )
    stages = SummaryMetricFamily(
        "latticewatch_stage_seconds", "Wall time of each stage of the analysis.", labels=["stage"]
    )
    for stage, (n, seconds) in engine.meter.stages().items():
        stages.add_metric([stage], n, seconds)
    yield stages


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"latticewatch_{name}", what, value=value)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"latticewatch_{name}", what, value=float(value))


def _by(
    label: str,
    name: str,
    what: str,
    values: Mapping[Any, int],
    family: type[CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily,
) -> Metric:
    metric = family(f"latticewatch_{name}", what, labels=[label])
    for key, value in values.items():
        metric.add_metric([key], value)
    return metric


class MicroscopesCollector(Collector):
    """What is counted of several microscopes, each told by the label ``microscope``.

    Parameters
    ----------
    hubs : mapping of str to Hub
        By the name of the microscope.
    """

    def __init__(self, hubs: Mapping[str, Hub]) -> None:
        self._hubs = hubs

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now; each once, with the samples of all microscopes."""
        merged: dict[str, Metric] = {}
        for name, hub in self._hubs.items():
            for metric in HubCollector(hub).collect():
                samples = merged.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                ).samples
                samples += [
                    one._replace(labels={"microscope": name} | dict(one.labels)) for one in metric.samples
                ]
        yield from merged.values()


def exposition_of(collector: Collector) -> bytes:
    """What is counted, with memory, processor time and handles of the process, in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    return generate_latest(registry)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(hub: TheHub) -> Response:
    """Metrics in the text format of Prometheus."""
    return Response(exposition_of(HubCollector(hub)), media_type=TEXT_FORMAT)
