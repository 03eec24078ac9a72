"""``/metrics``: the same accounting for Prometheus, read from the engine at the moment of the scrape."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Depends, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from latticewatch.execute import LATENCY_BOUNDS_S, Engine
from latticewatch.serve._access import read_scope
from latticewatch.serve._hub import TheHub

router = APIRouter(tags=["probes"], dependencies=[Depends(read_scope)])


class EngineCollector(Collector):
    """Counters, gauges and the latency histogram of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now."""
        engine, state = self._engine, self._engine.state
        frames = engine.receiver.counts()
        yield CounterMetricFamily("latticewatch_frames_received", "Frames received.", value=frames.received)
        yield CounterMetricFamily("latticewatch_frames_analysed", "Frames analysed.", value=frames.analysed)
        dropped = CounterMetricFamily(
            "latticewatch_frames_dropped", "Frames received but not analysed.", labels=["reason"]
        )
        for reason, n in frames.dropped.items():
            dropped.add_metric([reason], n)
        yield dropped
        yield CounterMetricFamily(
            "latticewatch_frames_lost_upstream",
            "Frames numbered but never received.",
            value=frames.lost_upstream,
        )
        rejected = CounterMetricFamily(
            "latticewatch_messages_rejected", "Messages that could not be read.", labels=["reason"]
        )
        for reason, n in frames.rejected.items():
            rejected.add_metric([reason], n)
        yield rejected
        yield GaugeMetricFamily("latticewatch_frames_in_flight", "Frames waiting.", value=frames.in_flight)
        yield CounterMetricFamily("latticewatch_events", "Events written.", value=engine.log.last_seq)
        yield GaugeMetricFamily("latticewatch_model_version", "Model in force.", value=state.model_version)
        yield GaugeMetricFamily("latticewatch_stalled", "An open series stalled.", value=int(state.stalled))
        yield GaugeMetricFamily(
            "latticewatch_degraded",
            "Something keeps it from its work.",
            value=int(engine.trouble is not None),
        )
        recording = engine.status(state).recording
        if recording is not None:
            yield CounterMetricFamily(
                "latticewatch_frames_recorded", "Frames recorded.", value=recording.recorded
            )
            skipped = CounterMetricFamily(
                "latticewatch_frames_not_recorded", "Analysed, but not recorded.", labels=["reason"]
            )
            for reason, n in recording.skipped.items():
                skipped.add_metric([reason], n)
            yield skipped
        sites = GaugeMetricFamily("latticewatch_sites", "Sites in the newest frame.", labels=["role"])
        for role, n in state.role_counts.items():
            sites.add_metric([role], n)
        yield sites
        bounds = [*(str(bound) for bound in LATENCY_BOUNDS_S), "+Inf"]
        cumulative, total_s = engine.meter.histogram()
        yield HistogramMetricFamily(
            "latticewatch_latency_seconds",
            "From a frame received to its events readable.",
            buckets=list(zip(bounds, cumulative, strict=True)),
            sum_value=total_s,
        )


def registry_of(engine: Engine) -> CollectorRegistry:
    """A registry of this engine alone."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(EngineCollector(engine))
    return registry


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(hub: TheHub) -> Response:
    """Metrics in the text format of Prometheus."""
    return Response(generate_latest(registry_of(hub.engine)), media_type="text/plain; version=0.0.4")
