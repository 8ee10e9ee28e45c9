"""Metrics of models from a Prometheus server (or anything that speaks its HTTP API)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..ports.errors import Permanent, Temporary
from ..ports.metrics import MetricQuery, MetricWindow
from .bounded_http import DamagedBody, Unpacked, Wire
from .prometheus_access import address, checked_headers, distrust, parameters_of
from .prometheus_answers import Points, TooLarge, UnusableAnswer, error_text, result_of, series_by_label
from .retry_after import retry_after
from .window_means import counted_mean, plain_mean

if TYPE_CHECKING:
    import ssl

    import httpx

_MAX_POINTS = 10_990
"""The API refuses more than 11,000 points a series; a few less, since both ends of a range count."""

_BYTES_PER_POINT = 40
"""Upper estimate of ``[1700000000,"0.9123456789012345"],`` in an answer; sizes the batches of models."""

_LONGEST_QUERY = 16_000
"""Bytes; VictoriaMetrics takes no longer one than 16 KiB (``-search.maxQueryLen``), others take more."""

_ANY_MODEL = ".+"

_API = "/api/v1/query_range"

_TRY_LATER = {408, 425, 429}
"""Refusals below 500 that mean "not now"."""


@dataclass(frozen=True, slots=True)
class PrometheusQuery:
    """How one metric is asked for.

    Attributes:
        expression: PromQL that gives one series a model, told apart by the model label. ``$models`` stands
            for a regular expression of the names and belongs between double quotes:
            ``model_accuracy{model=~"$models"}``. ``$step`` stands for the distance between two points, as a
            PromQL duration.
        count: PromQL for the number of labelled predictions behind each point, in the same form:
            ``sum by (model) (increase(labelled_total{model=~"$models"}[$step]))``. Points are then weighted
            by it. ``None`` weights all points alike.
    """

    expression: str
    count: str | None = None


class PrometheusMetrics:
    """Means over windows, from range queries.

    However many models there are, a metric is one request (and one more for its count), whatever the
    windows: the union of the windows is asked for, and each model's own is cut out of the answer. Where the
    names would make the query longer than servers take, ``$models`` becomes ``.+``: the series of all models
    come back, and those nobody asked for are left out. Two things make it more requests: an answer that is
    expected not to fit ``max_bytes`` (models times points), and a server where so many other models have a
    series that the answer to ``.+`` did not fit; models are then asked for by their names, in parts.

    A point is the value that Prometheus gives at one step; ``points`` counts the usable ones and
    ``last_at`` is the time of the last one, which may lie up to Prometheus' look-back (5 minutes) after
    the last scrape. Points that are NaN or infinite are left out, and so are points without a usable count
    where a ``count`` is given; when more than half of a window's points are such, the answer is unknown. A
    point whose count is 0 stands for no predictions and is left out silently, whatever its value.

    An answer that carries warnings, or calls itself partial, is unknown; Thanos and VictoriaMetrics are told
    to refuse rather than to answer in part. Redirects are not followed, so that nobody else is sent the
    credentials.

    Args:
        url: Address of the server, with path prefix if any; may hold ``user:password@``, which is used for
            basic authentication and never shown.
        queries: How each metric is asked for, by its name.
        model_label: Label that holds the model's name.
        labels: Value of that label, by model, where it is not the model's name.
        step_seconds: Distance between two points in seconds; raised for a range of more than 11,000 points.
        timeout: Seconds for one request, from connecting to the last byte.
        headers: Sent with every request (``Authorization``, ``X-Scope-OrgID``); never shown.
        auth: User and password of basic authentication; never shown.
        parameters: Sent with every query (``dedup`` of Thanos, ``extra_label`` of VictoriaMetrics).
        tls: What a TLS connection trusts, from ``tls_context``; ``None`` trusts what httpx does.
        max_bytes: An answer larger than this is not read to its end; its models are unknown.

    Raises:
        ValueError: A number is not positive, the address is not one of HTTP, a header cannot be sent, a
            parameter would change the query, or two models have one label.
    """

    def __init__(
        self,
        url: str,
        queries: Mapping[str, PrometheusQuery],
        *,
        model_label: str = "model",
        labels: Mapping[str, str] | None = None,
        step_seconds: float = 300,
        timeout: float = 10,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        parameters: Mapping[str, str | Sequence[str]] | None = None,
        tls: ssl.SSLContext | None = None,
        max_bytes: int = 64_000_000,
    ) -> None:
        if min(step_seconds, timeout, max_bytes) <= 0:
            raise ValueError("step_seconds, timeout and max_bytes must be above 0")
        self._server, in_address = address(url)
        self._auth = auth or in_address
        self._queries = dict(queries)
        self._label = model_label
        self._labels = dict(labels or {})
        if len(set(self._labels.values())) < len(self._labels):
            raise ValueError("two models have one label, and would be given each other's values")
        self._step = step_seconds
        self._timeout = timeout
        self._headers = checked_headers(headers or {})
        self._parameters = parameters_of(parameters or {})
        self._tls = tls
        self._max_bytes = max_bytes
        self._crowded: set[str] = set()

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        """Answer every query; see ``MetricSource.read``.

        What fails for one metric is the reason of its windows alone. After a first temporary failure
        nothing more is asked, so that a server that hangs costs one timeout.

        Raises:
            Temporary: No request was answered, and the first failure may pass.
            Permanent: No request was answered, and the first failure will stay.
        """
        import httpx

        windows = {query: self._no_query(query) for query in queries if query.metric not in self._queries}
        failures: list[Temporary | Permanent] = []
        answered = False
        wire = Wire()
        headers = {"Accept-Encoding": "gzip", **self._headers}
        verify = self._tls if self._tls is not None else True
        with httpx.Client(auth=self._auth, headers=headers, timeout=self._timeout, verify=verify) as client:
            for batch in self._batches([query for query in queries if query.metric in self._queries]):
                try:
                    windows.update(self._answer(client, wire, batch))
                    answered = True
                except Permanent as error:
                    failures.append(error)
                    windows.update({query: _unknown(query, str(error)) for query in batch.queries})
                except Temporary as error:
                    failures.append(error)
                    break
        if failures and not answered:
            raise failures[0]
        return [windows.get(query) or _unknown(query, str(failures[-1])) for query in queries]

    def _no_query(self, query: MetricQuery) -> MetricWindow:
        known = ", ".join(sorted(self._queries)) or "none"
        return _unknown(query, f"no Prometheus query is set for the metric {query.metric!r} (set: {known})")

    def _batches(self, queries: Sequence[MetricQuery]) -> Iterator[_Batch]:
        by_metric: dict[str, list[MetricQuery]] = {}
        for query in queries:
            by_metric.setdefault(query.metric, []).append(query)
        for metric, members in by_metric.items():
            whole = _Batch(self._queries[metric], None, _grid(members, self._step), members)
            if self._fits(whole, self._labels_of(members)) or not self._may_be_open(metric, whole):
                yield from self._by_name(whole)
                continue
            yield whole
            if metric in self._crowded:  # by now: the answer to all names was too large
                yield from self._by_name(whole)

    def _labels_of(self, queries: Sequence[MetricQuery]) -> list[str]:
        return sorted({self._label_of(query) for query in queries})

    def _label_of(self, query: MetricQuery) -> str:
        return self._labels.get(query.model, query.model)

    def _may_be_open(self, metric: str, whole: _Batch) -> bool:
        """Whether one request without the names is worth trying."""
        expressions = (whole.query.expression, whole.query.count or "$models")
        named = all("$models" in expression for expression in expressions)
        return (
            named and metric not in self._crowded and self._room(whole) >= len(self._labels_of(whole.queries))
        )

    def _room(self, batch: _Batch) -> int:
        """How many models an answer can hold."""
        return max(int(self._max_bytes / (batch.grid.points * _BYTES_PER_POINT)), 1)

    def _fits(self, batch: _Batch, labels: Sequence[str]) -> bool:
        """Whether these models can be asked for by their names, in one request."""
        longest = max(len(text.encode()) for text in batch.filled(labels))
        return len(labels) <= self._room(batch) and longest <= _LONGEST_QUERY

    def _by_name(self, whole: _Batch) -> Iterator[_Batch]:
        """The same in as many parts as it takes, halved until each fits; one model always does."""
        waiting: list[Sequence[str]] = [self._labels_of(whole.queries)]
        while waiting:
            labels = waiting.pop()
            if len(labels) > 1 and not self._fits(whole, labels):
                size = min(self._room(whole), -(-len(labels) // 2))
                waiting += reversed(list(_chunks(labels, size)))
                continue
            chosen = set(labels)
            yield replace(
                whole, labels=labels, queries=[q for q in whole.queries if self._label_of(q) in chosen]
            )

    def _answer(self, client: httpx.Client, wire: Wire, batch: _Batch) -> dict[MetricQuery, MetricWindow]:
        expression, *count = batch.filled(batch.labels)
        try:
            values = self._ask(client, wire, expression, batch.grid)
            counts = self._ask(client, wire, count[0], batch.grid) if count else None
        except TooLarge as trouble:
            if batch.labels is None:
                self._crowded.add(batch.queries[0].metric)
            return {query: _unknown(query, str(trouble)) for query in batch.queries}
        except UnusableAnswer as trouble:
            return {query: _unknown(query, str(trouble)) for query in batch.queries}
        return {
            query: _window(query, self._label_of(query), batch.grid, values, counts)
            for query in batch.queries
        }

    def _ask(self, client: httpx.Client, wire: Wire, expression: str, grid: _Grid) -> dict[str, Points | str]:
        """Points by label, or why it has none; a label without any sample is absent."""
        form = {
            **self._parameters,
            "query": expression,
            "start": f"{grid.start:.3f}",
            "end": f"{grid.end:.3f}",
            "step": f"{grid.step:.3f}",
        }
        status, headers, body = self._post(client, wire, form)
        if status != 200:
            raise self._refusal(status, headers, body)
        return series_by_label(result_of(body), self._label)

    def _post(
        self, client: httpx.Client, wire: Wire, form: Mapping[str, str | list[str]]
    ) -> tuple[int, Mapping[str, str], bytes]:
        import httpx

        endpoint, trace = f"{self._server}{_API}", {"trace": wire.trace}
        try:
            with (
                wire.cut_after(self._timeout),
                client.stream("POST", endpoint, data=form, extensions=trace) as response,
            ):
                body = self._body(response)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise Permanent(f"{self._server} is not an address of a Prometheus server") from None
        except httpx.TimeoutException:
            raise self._too_slow() from None
        except DamagedBody:
            raise UnusableAnswer("the answer of Prometheus cannot be decompressed") from None
        except (httpx.RequestError, ValueError) as error:  # h11 reads a length that no integer may have
            if wire.is_cut:
                raise self._too_slow() from None
            if why := distrust(error):
                raise Permanent(f"Prometheus at {self._server} cannot be asked: {why}") from None
            raise Temporary(f"Prometheus at {self._server} cannot be reached: {error}") from None
        if wire.is_cut:  # what ends with its connection looks whole
            raise self._too_slow()
        return response.status_code, response.headers, body

    def _body(self, response: httpx.Response) -> bytes:
        """The body, read piece by piece and no further than ``max_bytes``."""
        if int(response.headers.get("content-length", 0)) > self._max_bytes:
            raise self._too_large()
        unpacked = Unpacked(response.headers.get("content-encoding", "identity"))
        body = bytearray()
        for piece in response.iter_raw():
            body += unpacked.add(piece, self._max_bytes + 1 - len(body))
            if len(body) > self._max_bytes:
                raise self._too_large()
        unpacked.check_whole()
        return bytes(body)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the answer of Prometheus is larger than {self._max_bytes} bytes")

    def _too_slow(self) -> Temporary:
        return Temporary(f"Prometheus at {self._server} did not answer within {self._timeout:g} s")

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> Temporary | Permanent:
        where = f"Prometheus at {self._server}"
        if status >= 500 or status in _TRY_LATER:
            return Temporary(f"{where} answers {status}{error_text(body)}", retry_after(headers))
        if 300 <= status < 400:
            return Permanent(f"{where} redirects ({status}); set the address it leads to")
        if status in (401, 403):
            return Permanent(f"{where} {_unwelcome(status, body)}")
        if status == 404 and not error_text(body):
            fix = "prometheus.url lacks a part of its path, perhaps (Mimir: /prometheus)"
            return Permanent(f"{where} has no query API (404 at {_API}): {fix}")
        return Permanent(f"{where} refuses the query ({status}){error_text(body)}")


def _unwelcome(status: int, body: bytes) -> str:
    """Why a server lets us not in, and which settings say who we are."""
    if b"no org id" in body[:1000]:  # Mimir, Cortex
        return f"wants to know the tenant ({status}: no org id): set X-Scope-OrgID in prometheus.headers"
    login = "prometheus.user and AUTORETRAIN_PROMETHEUS_PASSWORD, or AUTORETRAIN_PROMETHEUS_TOKEN"
    if status == 403:
        return f"refuses the credentials (403): they may not query; check their rights, and {login}"
    return f"refuses the credentials (401): check {login}"


@dataclass(frozen=True, slots=True)
class _Grid:
    """Instants at which a range query is evaluated, in seconds since the epoch; both ends included."""

    start: float
    end: float
    step: float

    @property
    def points(self) -> int:
        return int((self.end - self.start) / self.step) + 1

    @property
    def duration(self) -> str:
        """The step as a PromQL duration."""
        return f"{math.ceil(self.step * 1000)}ms"

    def meets(self, start: float, end: float) -> bool:
        """Whether an instant lies in ``start <= t < end``."""
        steps = max(0, math.ceil((start - self.start) / self.step))
        return self.start + steps * self.step < end


@dataclass(frozen=True, slots=True)
class _Batch:
    """Models asked for in one request; ``labels`` is ``None`` where it asks for whatever there is."""

    query: PrometheusQuery
    labels: Sequence[str] | None
    grid: _Grid
    queries: Sequence[MetricQuery]

    def filled(self, labels: Sequence[str] | None) -> list[str]:
        """The expression, and that of the count if there is one, for these labels."""
        pattern = _ANY_MODEL if labels is None else _alternation(labels)
        given = [text for text in (self.query.expression, self.query.count) if text is not None]
        return [text.replace("$step", self.grid.duration).replace("$models", pattern) for text in given]


def _grid(queries: Sequence[MetricQuery], step: float) -> _Grid:
    # The API takes milliseconds; rounded up, the first instant is not before the first window.
    start = math.ceil(min(query.window.start for query in queries).timestamp() * 1000) / 1000
    end = max(query.window.end for query in queries).timestamp()
    return _Grid(start, end, max(step, float(math.ceil((end - start) / _MAX_POINTS))))


def _chunks(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[first : first + size] for first in range(0, len(names), size))


def _alternation(labels: Iterable[str]) -> str:
    """Names as one regular expression, escaped for a PromQL string between double quotes."""
    pattern = "|".join(map(re.escape, labels))
    return pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _window(
    query: MetricQuery,
    label: str,
    grid: _Grid,
    values: Mapping[str, Points | str],
    counts: Mapping[str, Points | str] | None,
) -> MetricWindow:
    start, end = query.window.start.timestamp(), query.window.end.timestamp()
    if not grid.meets(start, end):
        return _unknown(query, f"the window is shorter than the step of {grid.step:g} s")
    series = values.get(label, [])
    if isinstance(series, str):
        return _unknown(query, series)
    points = [point for point in series if start <= point[0] < end]
    if not points:
        return _unknown(query, "Prometheus has no sample in the window", empty=True)
    if counts is None:
        return plain_mean(query, points)
    weights = counts.get(label, "Prometheus has no count for this model")
    if isinstance(weights, str):
        return _unknown(query, f"count of labelled predictions: {weights}")
    return counted_mean(query, points, dict(weights))


def _unknown(query: MetricQuery, reason: str, *, empty: bool = False) -> MetricWindow:
    return MetricWindow(query, None, reason, empty=empty)
