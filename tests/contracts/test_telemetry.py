from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families

from autoretrain.adapters.memory import MemoryTelemetry
from autoretrain.adapters.telemetry_prometheus import PrometheusTelemetry
from autoretrain.entrypoints.testing.telemetry import AT, FULL, TelemetryContract
from autoretrain.ports.telemetry import OUTCOMES, EndedJob, Telemetry

SCRAPER = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""What Prometheus 2.42 says it accepts."""


def exported(telemetry: PrometheusTelemetry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the rendered page, read by prometheus-client's own parser."""
    families = text_string_to_metric_families(telemetry.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


class TestPrometheusTelemetry(TelemetryContract):
    def telemetry(self) -> Telemetry:
        return PrometheusTelemetry()

    def ticks(self, telemetry: Telemetry) -> int:
        assert isinstance(telemetry, PrometheusTelemetry)
        return int(exported(telemetry)["autoretrain_ticks_total", ()])

    def test_exports_what_the_tick_said(self) -> None:
        telemetry = PrometheusTelemetry()
        telemetry.report(FULL)
        telemetry.report(FULL)
        page = exported(telemetry)
        expected = {
            ("autoretrain_tick_duration_seconds_count", ()): 2.0,
            ("autoretrain_tick_duration_seconds_sum", ()): 0.5,
            ("autoretrain_last_tick_timestamp_seconds", ()): AT.timestamp(),
            ("autoretrain_holds_lease", ()): 1.0,
            ("autoretrain_shards_held", ()): 7.0,
            ("autoretrain_looks_total", ()): 4.0,
            ("autoretrain_verdicts_total", (("answer", "yes"), ("trigger", "performance"))): 2.0,
            ("autoretrain_entries_total", (("kind", "started"),)): 2.0,
            ("autoretrain_jobs_total", (("outcome", "deployed"),)): 2.0,
            ("autoretrain_job_duration_seconds_sum", (("outcome", "deployed"),)): 7200.0,
            ("autoretrain_errors_total", (("part", "metrics"),)): 4.0,
            ("autoretrain_notices_sent_total", ()): 6.0,
            ("autoretrain_notices_waiting", ()): 1.0,
            ("autoretrain_notices_dead", ()): 2.0,
            ("autoretrain_notices_oldest_age_seconds", ()): 90.0,
            ("autoretrain_leases_lost_total", ()): 2.0,
            ("autoretrain_due_models", ()): 2.0,
            ("autoretrain_due_lag_seconds", ()): 7.5,
            ("autoretrain_unknown_verdicts", (("trigger", "drift"),)): 2.0,
            ("autoretrain_conflicts", ()): 1.0,
            ("autoretrain_champions_below_floor", ()): 3.0,
            ("autoretrain_model_metric", (("metric", "accuracy"), ("model", "heat"))): 0.91,
        }
        assert {key: page.get(key) for key in expected} == expected

    def test_the_age_of_the_loop_is_that_of_the_scrape(self) -> None:
        seconds = [100.0]
        telemetry = PrometheusTelemetry(monotonic=lambda: seconds[0])
        age = ("autoretrain_loop_age_seconds", ())
        seconds[0] = 130.0
        assert exported(telemetry)[age] == 30.0
        telemetry.report(FULL)
        seconds[0] = 137.5
        assert exported(telemetry)[age] == 7.5

    def test_what_is_known_again_is_no_longer_unknown(self) -> None:
        telemetry = PrometheusTelemetry()
        telemetry.report(FULL)
        telemetry.report(replace(FULL, unknown={"performance": 1}, conflicts=0))
        page = exported(telemetry)
        unknown = {key[1][0][1]: value for key, value in page.items() if key[0].endswith("unknown_verdicts")}
        assert unknown == {"drift": 0.0, "performance": 1.0}
        assert page["autoretrain_conflicts", ()] == 0.0

    def test_a_fleet_does_not_multiply_the_kinds_of_entries(self) -> None:
        telemetry = PrometheusTelemetry()
        telemetry.report(FULL)
        before = len(exported(telemetry))
        events = {(f"model-{n}", "started"): 1 for n in range(1000)}
        telemetry.report(replace(FULL, events=events))
        assert len(exported(telemetry)) == before

    def test_shares_a_registry_with_the_application(self) -> None:
        registry = CollectorRegistry()
        PrometheusTelemetry(registry).report(FULL)
        assert registry.get_sample_value("autoretrain_ticks_total") == 1.0

    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            ("", "text/plain"),
            ("*/*", "text/plain"),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain"),
            (SCRAPER, "application/openmetrics-text"),
        ],
    )
    def test_says_what_it_renders(self, accept: str, kind: str) -> None:
        telemetry = PrometheusTelemetry()
        telemetry.report(FULL)
        content_type, body = telemetry.page(accept)
        assert content_type.startswith(kind)
        assert body.endswith(b"# EOF\n") == kind.startswith("application")

    def test_exemplars_name_the_latest_jobs(self) -> None:
        telemetry = PrometheusTelemetry()
        for job_id in ("first", "second"):
            telemetry.report(replace(FULL, jobs=(EndedJob(job_id, "failed", 700.0),)))
        page = telemetry.page(SCRAPER)[1].decode()
        found = {
            (sample.name, sample.labels.get("le")): sample.exemplar.labels
            for family in open_metrics_families(page)  # type: ignore[no-untyped-call]
            for sample in family.samples
            if sample.exemplar
        }
        assert found == {
            ("autoretrain_jobs_total", None): {"job_id": "second"},
            ("autoretrain_job_duration_seconds_bucket", "900.0"): {"job_id": "second"},
        }
        assert "job_id" not in telemetry.render().decode()

    def test_every_outcome_is_there_before_the_first_job(self) -> None:
        page = exported(PrometheusTelemetry())
        jobs = {key[1][0][1]: value for key, value in page.items() if key[0] == "autoretrain_jobs_total"}
        assert jobs == dict.fromkeys(OUTCOMES, 0.0)

    def test_one_registry_takes_one(self) -> None:
        registry = CollectorRegistry()
        PrometheusTelemetry(registry)
        with pytest.raises(ValueError, match="autoretrain_ticks"):
            PrometheusTelemetry(registry)


class TestMemoryTelemetry(TelemetryContract):
    def telemetry(self) -> Telemetry:
        return MemoryTelemetry()

    def ticks(self, telemetry: Telemetry) -> int:
        assert isinstance(telemetry, MemoryTelemetry)
        return len(telemetry.reports)
