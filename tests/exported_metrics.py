"""What a controller exports, read from its page by prometheus-client's own parser."""

from prometheus_client.parser import text_string_to_metric_families

from autoretrain.adapters.telemetry_prometheus import PrometheusTelemetry
from autoretrain.entrypoints.testing.telemetry import FULL


def exported() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of every metric, by the name under which it is scraped."""
    telemetry = PrometheusTelemetry()
    telemetry.report(FULL)
    found = {}
    for family in text_string_to_metric_families(telemetry.render().decode()):
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, frozenset(labels))
    return found
