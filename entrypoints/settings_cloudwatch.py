"""The section ``[cloudwatch]``: live metrics from Amazon CloudWatch."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from ..adapters.metrics_cloudwatch import CloudWatchQuery
from .settings_sections import Section

_MOST_DIMENSIONS = 30


def _like(pattern: str, fix: str) -> AfterValidator:
    """A check of a text that says in words what it should be; no text passes."""

    def check(value: str | None) -> str | None:
        if value is not None and not re.fullmatch(pattern, value):
            raise ValueError(fix)
        return value

    return AfterValidator(check)


_NAMED = r"(p|tm|wm|tc|ts)\d{1,2}(\.\d{1,10})?|(PR|TM|WM|TC|TS)\([\d.%]*:[\d.%]*\)"
_STATISTIC = _like(
    rf"Average|Sum|SampleCount|Minimum|Maximum|IQM|{_NAMED}",
    "is no statistic of CloudWatch, which are Average, Sum, SampleCount, Minimum, Maximum, p90 and the like",
)
_METRIC = _like(r"[!-~][ -~]{0,254}", "1 to 255 characters of ASCII")
_NAMESPACE = _like(
    r"[A-Za-z0-9._/#-][A-Za-z0-9._/#: -]{0,254}",
    "up to 255 letters, digits and . - _ / # : of ASCII, and no colon first",
)
_REGION = _like(r"[a-z0-9]+(-[a-z0-9]+)+", "is no name of a region, as eu-central-1 is one")
_ADDRESS = _like(
    r"https?://[^@\s/?#]+[^@\s]*",
    "an address that starts with http:// or https:// and holds no user: requests are signed",
)
_DIMENSION_NAME = _like(r"[!-9;-~][ -~]{0,254}", "1 to 255 characters of ASCII, and no colon first")
_DIMENSION_VALUE = _like(r"[!-9;-~][ -~]{0,1023}", "1 to 1024 characters of ASCII, and no colon first")


class CloudWatchQuerySettings(Section):
    """How a metric is asked of CloudWatch.

    Attributes:
        metric: Its name in CloudWatch.
        statistic: What is made of the samples of a period: `Average`, `Sum`, `SampleCount`, `Minimum`,
            `Maximum`, a percentile as `p90`.
        count_metric: Metric that says how many predictions are behind a point, with the same dimensions;
            ``None`` takes `metric` itself where `count_statistic` is set.
        count_statistic: Statistic of that number: `Sum`, or `SampleCount` where a sample is a prediction;
            ``None`` takes `Sum` where `count_metric` is set.
    """

    metric: Annotated[str, _METRIC]
    statistic: Annotated[str, _STATISTIC] = "Average"
    count_metric: Annotated[str | None, _METRIC] = None
    count_statistic: Annotated[str | None, _STATISTIC] = None

    def query(self) -> CloudWatchQuery:
        """The same for the adapter."""
        return CloudWatchQuery(**self.model_dump())


class CloudWatchSettings(Section):
    """The part of CloudWatch that holds live metrics. Credentials are those that every tool of AWS finds.

    Attributes:
        namespace: Namespace of the metrics.
        region: Region; ``None`` takes that of the environment or of the AWS profile.
        endpoint_url: Address to ask instead of the public one, as of a VPC endpoint.
        model_dimension: Dimension that holds the name of the model.
        dimensions: The further dimensions, which must be all that the metrics have.
        period_seconds: Seconds that a point of a window stands for, a multiple of 60; raised for old windows.
        timeout_seconds: Reading takes no longer, all models together; what is not answered by then is
            unknown.
        queries: How each metric is asked for, by its name.
    """

    namespace: Annotated[str | None, _NAMESPACE] = None
    region: Annotated[str | None, _REGION] = None
    endpoint_url: Annotated[str | None, _ADDRESS] = Field(default=None, repr=False)
    model_dimension: Annotated[str, _DIMENSION_NAME] = "model"
    dimensions: dict[Annotated[str, _DIMENSION_NAME], Annotated[str, _DIMENSION_VALUE]] = Field(
        default_factory=dict
    )
    period_seconds: int = Field(default=300, ge=60, le=86_400, multiple_of=60)
    timeout_seconds: float = Field(default=30.0, gt=0, le=600, allow_inf_nan=False)
    queries: dict[str, CloudWatchQuerySettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _dimensions(self) -> CloudWatchSettings:
        if self.model_dimension in self.dimensions:
            raise ValueError(f"dimensions: {self.model_dimension} is the model's, so leave it out")
        if len(self.dimensions) >= _MOST_DIMENSIONS:
            raise ValueError(f"dimensions: CloudWatch takes {_MOST_DIMENSIONS} at most, the model's included")
        return self
