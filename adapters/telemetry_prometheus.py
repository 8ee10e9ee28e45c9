"""What the controller does, as metrics that Prometheus can scrape."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..ports.telemetry import OUTCOMES, TickReport
from .pushgateway import push

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_JOB_SECONDS = (60, 300, 900, 1800, 3600, 7200, 14400, 43200, 86400, 259200, 604800)
"""From a minute to a week, since a job may wait for a person."""

_EXEMPLAR_TEXT = 100
"""Characters; OpenMetrics allows 128 for an exemplar with the name of its label."""

_OPEN_METRICS = "application/openmetrics-text"


class PrometheusTelemetry:
    """Counters and gauges of the ticks of this process; all names begin with ``autoretrain_``.

    No label but that of ``autoretrain_model_metric`` names a model, so that the page grows with the fleet
    only as far as it must. docs/operations.md says what each is for.

    ``autoretrain_model_metric`` keeps the value of the last look that had one, so an alert on it should
    also ask for the age of ``autoretrain_last_tick_timestamp_seconds`` and for unknown verdicts.

    Args:
        registry: Where the metrics are registered; ``None`` for a registry of its own. A registry takes one
            ``PrometheusTelemetry`` only.
        monotonic: Stopwatch in seconds, for the age of the loop.

    Raises:
        ValueError: The registry already holds metrics of these names.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        from prometheus_client import CollectorRegistry

        self._registry = registry if registry is not None else CollectorRegistry()
        self._monotonic = monotonic
        self._reported_at = monotonic()
        self._unknown_triggers: set[str] = set()
        self._register_loop(self._registry)
        self._register_fleet(self._registry)
        self._register_jobs(self._registry)
        self._register_notices(self._registry)

    def _register_loop(self, own: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram

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
        age = Gauge(
            "autoretrain_loop_age_seconds",
            "Since the last turn of the loop that came to its end, or since the start.",
            registry=own,
        )
        age.set_function(lambda: self._monotonic() - self._reported_at)  # asked when it is scraped
        self._lease = Gauge("autoretrain_holds_lease", "1 when this controller may act.", registry=own)
        self._shards = Gauge(
            "autoretrain_shards_held", "Shards whose models this controller acts on.", registry=own
        )
        self._leases_lost = Counter(
            "autoretrain_leases_lost", "Leases that another controller took from this one.", registry=own
        )
        self._errors = Counter(
            "autoretrain_errors", "Errors of the world around, by part.", ["part"], registry=own
        )

    def _register_fleet(self, own: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge

        self._due = Gauge("autoretrain_due_models", "Models that were due in the last turn.", registry=own)
        self._lag = Gauge(
            "autoretrain_due_lag_seconds",
            "How overdue the most overdue model was in the last turn.",
            registry=own,
        )
        self._looks = Counter("autoretrain_looks", "Models looked at.", registry=own)
        self._verdicts = Counter(
            "autoretrain_verdicts",
            "Verdicts of triggers: yes, no or unknown.",
            ["trigger", "answer"],
            registry=own,
        )
        self._unknown = Gauge(
            "autoretrain_unknown_verdicts",
            "Models whose last verdict of a trigger is unknown.",
            ["trigger"],
            registry=own,
        )
        self._conflicts = Gauge(
            "autoretrain_conflicts", "Models whose champion somebody else has moved.", registry=own
        )
        self._below_floor = Gauge(
            "autoretrain_champions_below_floor",
            "Models whose champion was measured below the floor.",
            registry=own,
        )
        self._entries = Counter(
            "autoretrain_entries", "Entries written to the ledger, by kind.", ["kind"], registry=own
        )
        self._metric = Gauge(
            "autoretrain_model_metric", "Latest value of a model's metric.", ["model", "metric"], registry=own
        )

    def _register_jobs(self, own: CollectorRegistry) -> None:
        from prometheus_client import Counter, Histogram

        self._jobs = Counter("autoretrain_jobs", "Jobs that ended, by outcome.", ["outcome"], registry=own)
        self._job_seconds = Histogram(
            "autoretrain_job_duration_seconds",
            "From the trigger of a job to its end, waiting for people included.",
            ["outcome"],
            buckets=_JOB_SECONDS,
            registry=own,
        )
        for outcome in OUTCOMES:  # a counter that appears with its first failure shows no increase
            self._jobs.labels(outcome)
            self._job_seconds.labels(outcome)

    def _register_notices(self, own: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge

        self._sent = Counter("autoretrain_notices_sent", "Notices delivered.", registry=own)
        self._waiting = Gauge(
            "autoretrain_notices_waiting", "Notices in the outbox, still to be sent.", registry=own
        )
        self._dead = Gauge(
            "autoretrain_notices_dead", "Notices that were given up, and wait for a person.", registry=own
        )
        self._oldest = Gauge(
            "autoretrain_notices_oldest_age_seconds",
            "How long the oldest waiting notice has waited.",
            registry=own,
        )

    def report(self, tick: TickReport) -> None:
        """Count a tick; see ``Telemetry.report``."""
        self._reported_at = self._monotonic()
        self._ticks.inc()
        self._seconds.observe(tick.seconds)
        self._last.set(tick.at.timestamp())
        self._lease.set(tick.holds_lease)
        self._shards.set(tick.shards_held)
        self._leases_lost.inc(tick.leases_lost)
        for part, count in tick.errors.items():
            self._errors.labels(part).inc(count)
        self._report_fleet(tick)
        self._sent.inc(tick.notices_sent)
        self._waiting.set(tick.notices_waiting)
        self._dead.set(tick.notices_dead)
        self._oldest.set(tick.notices_age_seconds)

    def _report_fleet(self, tick: TickReport) -> None:
        self._due.set(len(tick.looked))
        self._lag.set(tick.lag_seconds)
        self._looks.inc(len(tick.looked))
        for (trigger, answer), count in tick.verdicts.items():
            self._verdicts.labels(trigger, answer).inc(count)
        self._unknown_triggers.update(tick.unknown)
        for trigger in tuple(self._unknown_triggers):  # those that know again go back to 0
            self._unknown.labels(trigger).set(tick.unknown.get(trigger, 0))
        self._conflicts.set(tick.conflicts)
        self._below_floor.set(tick.below_floor)
        for job in tick.jobs:
            exemplar = {"job_id": job.job_id[:_EXEMPLAR_TEXT]}
            self._jobs.labels(job.outcome).inc(exemplar=exemplar)
            self._job_seconds.labels(job.outcome).observe(job.seconds, exemplar)
        for (_, kind), count in tick.events.items():
            self._entries.labels(kind).inc(count)
        for (model, metric), value in tick.metrics.items():
            self._metric.labels(model, metric).set(value)

    def page(self, accept: str = "") -> tuple[str, bytes]:
        """The metrics as they are scraped.

        Args:
            accept: The client's ``Accept`` header. OpenMetrics is given to those that name it, with the ids
                of the latest jobs as exemplars; plain text to all others.

        Returns:
            Value of the ``Content-Type`` header, and the text.
        """
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        if _OPEN_METRICS in accept.lower():
            from prometheus_client.openmetrics import exposition

            text: bytes = exposition.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return exposition.CONTENT_TYPE_LATEST, text
        return CONTENT_TYPE_LATEST, generate_latest(self._registry)

    def render(self) -> bytes:
        """The metrics as plain text."""
        return self.page()[1]

    def push(self, gateway: str, job: str, seconds: float) -> None:
        """Put the metrics on a Pushgateway, for a process that ends before anybody scrapes it.

        They replace what was there of the same job and host.

        Args:
            gateway: Its address.
            job: Value of the label ``job``.
            seconds: How long this may take.

        Raises:
            Temporary: The gateway cannot be reached, was too slow, or refused.
        """
        push(self._registry, gateway, job, seconds)
