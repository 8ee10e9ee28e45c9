"""A model's service, as far as Prometheus sees it: how good the model is on the rows that are labelled."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_ROWS_A_SECOND = 100


class LiveModel(Collector):
    """Exports ``model_accuracy``, and ``model_labelled_total``, which never stops.

    Args:
        model: Value of the label ``model``.
        accuracy: What it is now; may be changed.
    """

    def __init__(self, model: str, accuracy: float) -> None:
        self.accuracy = accuracy
        self.target = ""
        self._model, self._began = model, time.monotonic()

    def collect(self) -> Iterable[Metric]:
        accuracy = GaugeMetricFamily("model_accuracy", "On the latest labelled rows.", labels=["model"])
        accuracy.add_metric([self._model], self.accuracy)
        labelled = CounterMetricFamily("model_labelled", "Rows whose label is known.", labels=["model"])
        labelled.add_metric([self._model], _ROWS_A_SECOND * (time.monotonic() - self._began))
        return accuracy, labelled


@contextmanager
def exporting(model: LiveModel) -> Iterator[LiveModel]:
    """Serve its metrics at ``model.target`` while the block runs."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(model)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    model.target = f"127.0.0.1:{server.server_port}"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
