"""What the controller does, as metrics that Prometheus can scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ports.telemetry import TickReport

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class PrometheusTelemetry:
    """Counters and gauges of the ticks of this process; all names begin with ``autoretrain_``.

    ``autoretrain_model_metric`` keeps the value of the last look that had one, so an alert on it should
    also ask for the age of ``autoretrain_last_tick_timestamp_seconds`` and for unknown verdicts.

    Args:
        registry: Where the metrics are registered; ``None`` for a registry of its own. A registry takes one
            ``PrometheusTelemetry`` only.

    Raises:
        ValueError: The registry already holds metrics of these names.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = own = registry if registry is not None else CollectorRegistry()
        self._ticks = Counter("autoretrain_ticks", "Turns of the loop.", registry=own)
        self._seconds = Histogram(
            "autoretrain_tick_duration_seconds",
            "How long a turn of the loop took.",
            buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300),
            registry=own,
        )
        self._last = Gauge(
            "autoretrain_last_tick_timestamp_seconds", "When the last turn of the loop was.", registry=own
        )
        self._lease = Gauge("autoretrain_holds_lease", "1 when this controller may act.", registry=own)
        self._looks = Counter("autoretrain_looks", "Models looked at.", registry=own)
        self._verdicts = Counter(
            "autoretrain_verdicts",
            "Verdicts of triggers: yes, no or unknown.",
            ["trigger", "answer"],
            registry=own,
        )
        self._entries = Counter(
            "autoretrain_entries", "Entries written to the ledger.", ["model", "kind"], registry=own
        )
        self._errors = Counter(
            "autoretrain_errors", "Errors of the world around, by part.", ["part"], registry=own
        )
        self._sent = Counter("autoretrain_notices_sent", "Notices delivered.", registry=own)
        self._waiting = Gauge(
            "autoretrain_notices_waiting", "Notices that failed and wait for their next try.", registry=own
        )
        self._metric = Gauge(
            "autoretrain_model_metric", "Latest value of a model's metric.", ["model", "metric"], registry=own
        )

    def report(self, tick: TickReport) -> None:
        """Count a tick; see ``Telemetry.report``."""
        self._ticks.inc()
        self._seconds.observe(tick.seconds)
        self._last.set(tick.at.timestamp())
        self._lease.set(tick.holds_lease)
        self._looks.inc(len(tick.looked))
        self._sent.inc(tick.notices_sent)
        self._waiting.set(tick.notices_waiting)
        for (trigger, answer), count in tick.verdicts.items():
            self._verdicts.labels(trigger, answer).inc(count)
        for (model, kind), count in tick.events.items():
            self._entries.labels(model, kind).inc(count)
        for part, count in tick.errors.items():
            self._errors.labels(part).inc(count)
        for (model, metric), value in tick.metrics.items():
            self._metric.labels(model, metric).set(value)

    @property
    def content_type(self) -> str:
        """Value of the ``Content-Type`` header that goes with ``render``."""
        from prometheus_client import CONTENT_TYPE_LATEST

        return CONTENT_TYPE_LATEST

    def render(self) -> bytes:
        """The metrics of the registry, as text to be scraped."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
