"""Series of points from CloudWatch, each one complete or with the reason why it is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..ports.credentials import without_userinfo
from ..ports.errors import MissingExtra, Permanent, Temporary
from .cloudwatch_errors import PERMISSION, Busy, UnusableAnswer, answered_error, local_error, shortened
from .deadline import TooLate, within

MOST_SERIES = 500
"""Series that one call of GetMetricData may ask for."""

MOST_POINTS = 100_800
"""Points that one answer may hold; what is more comes in further pages."""

_PAUSES = (0.5, 1.0, 2.0)
"""Seconds before a busy CloudWatch is asked again."""

_LONGER_PAUSE = 4.0
"""Seconds to stay away from it when that did not help, and it did not say how long."""

_CONNECT_SECONDS = 5.0

Points = dict[float, float]
"""Value by time, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of points.

    Attributes:
        metric: Name of the metric in CloudWatch.
        statistic: What is made of the samples of a period: ``Average``, ``Sum``, ``SampleCount``, ``p99`` …
        dimensions: Names and values that tell the metric apart, all of them.
    """

    metric: str
    statistic: str
    dimensions: Mapping[str, str]


class CloudWatch:
    """Asks CloudWatch, and does not take a part for the whole.

    Several threads may ask at once. Credentials are found as by every tool of AWS, and looked for anew after
    a failure.

    Args:
        namespace: Namespace of the metrics.
        region: Region of AWS; ``None`` takes that of the environment or of the profile.
        endpoint_url: Address to ask instead of the public one, as of a VPC endpoint.
        sleep: Waits for so many seconds.
        monotonic: Stopwatch in seconds.

    Raises:
        ValueError: The address is not one of HTTP, or holds a user or password.
    """

    def __init__(
        self,
        namespace: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if endpoint_url is not None and not endpoint_url.startswith(("http://", "https://")):
            raise ValueError("the address of CloudWatch starts with http:// or https://")
        if endpoint_url is not None and without_userinfo(endpoint_url) != endpoint_url:
            raise ValueError("the address of CloudWatch holds no user or password: requests are signed")
        self._namespace = namespace
        self._region = region
        self._endpoint_url = endpoint_url
        self._sleep = sleep
        self._monotonic = monotonic
        self._client: Any = None
        self.name = f"CloudWatch at {endpoint_url}" if endpoint_url else "CloudWatch"

    def read(
        self, asked: Sequence[Series], start: datetime, end: datetime, period: int, deadline: Deadline
    ) -> list[Points | str]:
        """Points by series, or why a series has none; in the order of the question.

        Args:
            asked: At most ``MOST_SERIES``.
            start: Time of the first point, a multiple of the period.
            end: Time after the last point.
            period: Seconds that a point stands for.
            deadline: When to be done, all pages together.

        Raises:
            Temporary: There is no complete answer now.
            Permanent: There will be none.
            UnusableAnswer: There is one, of which nothing can be made.
        """
        request: dict[str, Any] = {
            "MetricDataQueries": [self._query(n, series, period) for n, series in enumerate(asked)],
            "StartTime": start,
            "EndTime": end,
            "ScanBy": "TimestampAscending",
        }
        found = {query["Id"]: _Collected() for query in request["MetricDataQueries"]}
        pages = self._pages(request, deadline)
        try:
            for result in (result for page in pages for result in page.get("MetricDataResults", ())):
                found[result["Id"]].add(result)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            raise UnusableAnswer(f"the answer of {self.name} is malformed") from None
        return [series.outcome() for series in found.values()]

    def _query(self, number: int, series: Series, period: int) -> Mapping[str, Any]:
        dimensions = [{"Name": name, "Value": value} for name, value in series.dimensions.items()]
        metric = {"Namespace": self._namespace, "MetricName": series.metric, "Dimensions": dimensions}
        return {
            "Id": f"s{number}",
            "MetricStat": {"Metric": metric, "Period": period, "Stat": series.statistic},
        }

    def _pages(self, request: Mapping[str, Any], deadline: Deadline) -> list[Mapping[str, Any]]:
        pages: list[Mapping[str, Any]] = []
        tokens: set[str] = set()
        more: Mapping[str, Any] = {}
        while True:
            pages.append(self._patiently({**request, **more}, deadline))
            if messages := pages[-1].get("Messages"):
                raise UnusableAnswer(f"the answer of CloudWatch may be partial: {_text(messages)}")
            token = pages[-1].get("NextToken")
            if not token:
                return pages
            if token in tokens:
                raise UnusableAnswer("CloudWatch gives the same page of its answer again and again")
            tokens.add(token)
            more = {"NextToken": token}

    def _patiently(self, request: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        for pause in _PAUSES:
            try:
                return self._once(request, deadline)
            except Busy as busy:
                wait = busy.retry_after or pause
                if wait >= deadline.left():
                    raise Temporary(str(busy), wait) from None
                self._sleep(wait)
        try:
            return self._once(request, deadline)
        except Busy as busy:
            raise Temporary(str(busy), busy.retry_after or _LONGER_PAUSE) from None

    def _once(self, request: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        try:
            return within(max(deadline.left(), 0.0), lambda: self._ask(request, deadline))
        except TooLate:
            failure: Exception = Temporary(f"{self.name} did not answer within {deadline.seconds:g} s")
        except (Permanent, Temporary):
            raise
        except Exception as error:  # whatever of botocore: nothing of it crosses the port
            failure = self._failure(error)
        if not isinstance(failure, Busy):
            self._client = None
        raise failure from None

    def _failure(self, error: Exception) -> Exception:
        from botocore.exceptions import ClientError

        if isinstance(error, ClientError):
            return answered_error(error, self.name)
        return local_error(error, self.name)

    def _ask(self, request: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        client = self._client or self._connected(deadline)
        self._client = client
        answer: Mapping[str, Any] = client.get_metric_data(**request)
        return answer

    def _connected(self, deadline: Deadline) -> Any:
        try:
            import boto3
            import botocore.session
            from botocore.config import Config
        except ImportError:
            raise MissingExtra("boto3", "cloudwatch") from None
        config = Config(
            connect_timeout=min(_CONNECT_SECONDS, deadline.seconds),
            read_timeout=deadline.seconds,
            retries={"total_max_attempts": 1},  # repeated here, where the deadline is known
        )
        # The session of boto3 that all share is not safe for threads.
        session = botocore.session.Session()
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
        return boto3.session.Session(botocore_session=session).client(
            "cloudwatch", region_name=self._region, endpoint_url=self._endpoint_url, config=config
        )

    def deadline(self, seconds: float) -> Deadline:
        """A time so many seconds from now."""
        return Deadline(seconds, self._monotonic() + seconds, self._monotonic)


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a reading has to be done.

    Attributes:
        seconds: How long it may take.
        at: When that is over, by the stopwatch.
        monotonic: The stopwatch.
    """

    seconds: float
    at: float
    monotonic: Callable[[], float]

    def left(self) -> float:
        """Seconds that are left; negative when it is over."""
        return self.at - self.monotonic()


@dataclass(slots=True)
class _Collected:
    """What the pages of an answer say about one series."""

    points: Points = field(default_factory=dict)
    status: str = ""
    messages: list[Any] = field(default_factory=list)
    flaw: str = ""

    def add(self, result: Mapping[str, Any]) -> None:
        """A page; the last one that knows the series says whether it is complete."""
        self.status = str(result.get("StatusCode", "without a status"))
        self.messages += result.get("Messages", ())
        times, values = result.get("Timestamps", ()), result.get("Values", ())
        if len(times) != len(values):
            self.flaw = "the series of this model is malformed"
        for time_, value in zip(times, values, strict=False):
            at, number = time_.timestamp(), float(value)
            if str(self.points.setdefault(at, number)) != str(number):  # NaN is no two values
                self.flaw = "CloudWatch has two values of one time for this model"

    def outcome(self) -> Points | str:
        said = f": {_text(self.messages)}" if self.messages else ""
        if not self.status:
            return "CloudWatch left this model out of its answer"
        if self.status == "Forbidden":
            return f"{PERMISSION}{said}"
        if self.status != "Complete":
            return f"the answer of CloudWatch is not complete ({self.status}){said}"
        if self.messages:
            return f"the answer of CloudWatch may be partial{said}"
        return self.flaw or self.points


def _timestamp(value: Any) -> datetime:
    """A time of an answer. botocore's own parser takes each point through the zone of this machine: 10 µs."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    from botocore.utils import parse_timestamp

    other: datetime = parse_timestamp(value)
    return other


def _text(messages: Sequence[Mapping[str, Any]]) -> str:
    parts = [f"{message.get('Code', '')} {message.get('Value', '')}".strip() for message in messages]
    return shortened("; ".join(parts))
