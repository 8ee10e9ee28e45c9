"""Metrics of models from a Prometheus server (or anything that speaks its HTTP API)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..ports.credentials import without_credentials
from ..ports.errors import Permanent, Temporary
from ..ports.metrics import MetricQuery, MetricWindow
from .bounded_http import DamagedBody, Unpacked, Wire
from .retry_after import retry_after
from .window_means import counted_mean, plain_mean

if TYPE_CHECKING:
    import httpx

_MAX_POINTS = 10_990
"""The API refuses more than 11,000 points a series; a few less, since both ends of a range count."""

_BYTES_PER_POINT = 40
"""Upper estimate of ``[1700000000,"0.9123456789012345"],`` in an answer; sizes the batches of models."""

_MAX_MODELS = 1000
"""Models in one request: keeps the regular expression in the query within reason."""

_TRY_LATER = {408, 425, 429}
"""Refusals below 500 that mean "not now"."""

Points = list[tuple[float, float]]
"""Time in seconds since the epoch, and value; ascending in time."""


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

    Many models share one request a metric, whatever their windows: the union of the windows is asked for,
    and each model's own window is cut out of the answer. (A fleet whose answer would not fit ``max_bytes``
    is asked for in several requests.)

    A point is the value that Prometheus gives at one step; ``points`` counts the usable ones and
    ``last_at`` is the time of the last one, which may lie up to Prometheus' look-back (5 minutes) after
    the last scrape. Points that are NaN or infinite are left out, and so are points without a usable count
    where a ``count`` is given; when more than half of a window's points are such, the answer is unknown. A
    point whose count is 0 stands for no predictions and is left out silently, whatever its value.

    An answer that carries warnings may be partial, and is unknown. Redirects are not followed, so that
    nobody else is sent the credentials.

    Args:
        url: Address of the server, with path prefix if any; may hold ``user:password@``, which is used for
            basic authentication and never shown.
        queries: How each metric is asked for, by its name.
        model_label: Label that holds the model's name.
        step_seconds: Distance between two points in seconds; raised for a range of more than 11,000 points.
        timeout: Seconds for one request, from connecting to the last byte.
        headers: Sent with every request (``Authorization``, ``X-Scope-OrgID``); never shown.
        max_bytes: An answer larger than this is not read to its end; its models are unknown.

    Raises:
        ValueError: A number is not positive, the address is not one of HTTP, or a header cannot be sent.
    """

    def __init__(
        self,
        url: str,
        queries: Mapping[str, PrometheusQuery],
        *,
        model_label: str = "model",
        step_seconds: float = 300,
        timeout: float = 10,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = 20_000_000,
    ) -> None:
        if min(step_seconds, timeout, max_bytes) <= 0:
            raise ValueError("step_seconds, timeout and max_bytes must be above 0")
        self._server, self._auth = _address(url)
        self._queries = dict(queries)
        self._label = model_label
        self._step = step_seconds
        self._timeout = timeout
        self._headers = _checked(headers or {})
        self._max_bytes = max_bytes

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
        with httpx.Client(auth=self._auth, headers=headers, timeout=self._timeout) as client:
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
            grid = _grid(members, self._step)
            fitting = int(self._max_bytes / (grid.points * _BYTES_PER_POINT))
            models = sorted({query.model for query in members})
            for names in _chunks(models, min(max(fitting, 1), _MAX_MODELS)):
                chosen = set(names)
                yield _Batch(self._queries[metric], names, grid, [q for q in members if q.model in chosen])

    def _answer(self, client: httpx.Client, wire: Wire, batch: _Batch) -> dict[MetricQuery, MetricWindow]:
        count = batch.query.count
        try:
            values = self._ask(client, wire, batch.query.expression, batch)
            counts = self._ask(client, wire, count, batch) if count else None
        except _UnusableAnswer as trouble:
            return {query: _unknown(query, str(trouble)) for query in batch.queries}
        return {query: _window(query, batch.grid, values, counts) for query in batch.queries}

    def _ask(
        self, client: httpx.Client, wire: Wire, expression: str, batch: _Batch
    ) -> dict[str, Points | str]:
        """Points by model, or why a model has none; a model without any sample is absent."""
        filled = expression.replace("$step", batch.grid.duration)
        form = {
            "query": filled.replace("$models", _alternation(batch.models)),
            "start": f"{batch.grid.start:.3f}",
            "end": f"{batch.grid.end:.3f}",
            "step": f"{batch.grid.step:.3f}",
        }
        status, headers, body = self._post(client, wire, form)
        if status != 200:
            raise self._refusal(status, headers, body)
        return _series_by_model(_result(body), self._label)

    def _post(
        self, client: httpx.Client, wire: Wire, form: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        import httpx

        address, trace = f"{self._server}/api/v1/query_range", {"trace": wire.trace}
        try:
            with (
                wire.cut_after(self._timeout),
                client.stream("POST", address, data=form, extensions=trace) as response,
            ):
                body = self._body(response)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise Permanent(f"{self._server} is not an address of a Prometheus server") from None
        except httpx.TimeoutException:
            raise self._too_slow() from None
        except DamagedBody:
            raise _UnusableAnswer("the answer of Prometheus cannot be decompressed") from None
        except (httpx.RequestError, ValueError) as error:  # h11 reads a length that no integer may have
            if wire.is_cut:
                raise self._too_slow() from None
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

    def _too_large(self) -> _UnusableAnswer:
        return _UnusableAnswer(f"the answer of Prometheus is larger than {self._max_bytes} bytes")

    def _too_slow(self) -> Temporary:
        return Temporary(f"Prometheus at {self._server} did not answer within {self._timeout:g} s")

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> Temporary | Permanent:
        where = f"Prometheus at {self._server}"
        if status >= 500 or status in _TRY_LATER:
            return Temporary(f"{where} answers {status}{_error_text(body)}", retry_after(headers))
        if 300 <= status < 400:
            return Permanent(f"{where} redirects ({status}); set the address it leads to")
        if status in (401, 403):
            return Permanent(f"{where} refuses the credentials ({status})")
        return Permanent(f"{where} refuses the query ({status}){_error_text(body)}")


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
    """Models asked for in one request."""

    query: PrometheusQuery
    models: Sequence[str]
    grid: _Grid
    queries: Sequence[MetricQuery]


class _UnusableAnswer(Exception):
    """The server answered, and nothing can be made of it; the text is the reason."""


def _grid(queries: Sequence[MetricQuery], step: float) -> _Grid:
    # The API takes milliseconds; rounded up, the first instant is not before the first window.
    start = math.ceil(min(query.window.start for query in queries).timestamp() * 1000) / 1000
    end = max(query.window.end for query in queries).timestamp()
    return _Grid(start, end, max(step, float(math.ceil((end - start) / _MAX_POINTS))))


def _chunks(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[first : first + size] for first in range(0, len(names), size))


def _alternation(models: Iterable[str]) -> str:
    """Names as one regular expression, escaped for a PromQL string between double quotes."""
    pattern = "|".join(re.escape(model) for model in models)
    return pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _result(body: bytes) -> list[Any]:
    """The series of a successful and complete answer."""
    try:
        answer = json.loads(body)
        if answer["status"] != "success" or answer["data"]["resultType"] != "matrix":
            raise _UnusableAnswer("the answer of Prometheus is not a range of samples")
        warnings, result = answer.get("warnings"), answer["data"]["result"]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise _UnusableAnswer("the answer of Prometheus is malformed") from None
    if warnings:
        raise _UnusableAnswer(f"the answer of Prometheus may be partial: {_shortened(str(warnings))}")
    if not isinstance(result, list):
        raise _UnusableAnswer("the answer of Prometheus is malformed")
    return result


def _series_by_model(result: Sequence[Any], label: str) -> dict[str, Points | str]:
    found: dict[str, Points | str] = {}
    for series in result:
        try:
            model = series["metric"].get(label)
        except (LookupError, TypeError, AttributeError):
            raise _UnusableAnswer("the answer of Prometheus is malformed") from None
        if not isinstance(model, str):
            raise _UnusableAnswer(f"the answer of Prometheus has a series without the label {label!r}")
        found[model] = "Prometheus has several series for this model" if model in found else _points(series)
    return found


def _points(series: Mapping[str, Any]) -> Points | str:
    if "histograms" in series:
        return "Prometheus has histograms for this model, not numbers"
    try:
        return [(float(at), float(value)) for at, value in series["values"]]
    except (LookupError, TypeError, ValueError, OverflowError):
        return "the series of this model is malformed"


def _window(
    query: MetricQuery,
    grid: _Grid,
    values: Mapping[str, Points | str],
    counts: Mapping[str, Points | str] | None,
) -> MetricWindow:
    start, end = query.window.start.timestamp(), query.window.end.timestamp()
    if not grid.meets(start, end):
        return _unknown(query, f"the window is shorter than the step of {grid.step:g} s")
    series = values.get(query.model, [])
    if isinstance(series, str):
        return _unknown(query, series)
    points = [point for point in series if start <= point[0] < end]
    if not points:
        return _unknown(query, "Prometheus has no sample in the window", empty=True)
    if counts is None:
        return plain_mean(query, points)
    weights = counts.get(query.model, "Prometheus has no count for this model")
    if isinstance(weights, str):
        return _unknown(query, f"count of labelled predictions: {weights}")
    return counted_mean(query, points, dict(weights))


def _unknown(query: MetricQuery, reason: str, *, empty: bool = False) -> MetricWindow:
    return MetricWindow(query, None, reason, empty=empty)


def _address(url: str) -> tuple[str, tuple[str, str] | None]:
    """An address without its secrets, and the secrets apart: httpx logs the addresses it asks."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("the address of a Prometheus server starts with http:// or https://")
    _, at, host = parts.netloc.rpartition("@")
    auth = (unquote(parts.username or ""), unquote(parts.password or "")) if at else None
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/"), auth


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that can be sent; httpx would name the value of one that cannot."""
    for name, value in headers.items():
        if not (name + value).isascii() or not (name + value).isprintable():
            raise ValueError(f"the value of {name} holds a line break or a character that no header may hold")
    return dict(headers)


def _error_text(body: bytes) -> str:
    """What Prometheus says about an error; nothing of a body that is not its own."""
    try:
        text = json.loads(body)["error"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return f": {_shortened(str(text))}"


def _shortened(text: str, limit: int = 300) -> str:
    text = without_credentials(text)  # before the cut, which may leave half an address
    return text if len(text) <= limit else text[: limit - 1] + "…"
