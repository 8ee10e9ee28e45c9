"""The section of the Prometheus server: how its metrics are asked for, and by which right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from ..adapters.prometheus_access import OWN_HEADERS, OWN_PARAMETERS, checked_headers
from ..ports.errors import Flaws
from .settings_sections import Section

_SECRET_HEADER = re.compile(r"(?i)token|secret|password|api[_-]?key|cookie|authorization")
"""Headers that hold secrets by their names."""


class PrometheusQuerySettings(Section):
    """How a metric is asked of Prometheus.

    Attributes:
        expression: PromQL; ``$models`` stands for the names of the models, as a regular expression.
        count: PromQL of the number of predictions behind each point; ``None`` when there is none.
    """

    expression: str
    count: str | None = None


class PrometheusSettings(Section):
    """The Prometheus server that holds live metrics.

    Attributes:
        url: Its address.
        model_label: Label that holds the name of the model.
        labels: Value of that label by model, where it is not the model's name.
        step_seconds: Distance between two points of a window.
        timeout_seconds: An answer that takes longer is none: unknown.
        max_answer_mb: A larger answer is not read to its end; models are asked for in several requests where
            theirs would be, in MB.
        user: User of basic authentication; its password is ``$AUTORETRAIN_PROMETHEUS_PASSWORD``.
        headers: Sent with every request, such as ``X-Scope-OrgID`` or ``THANOS-TENANT``; secret ones are
            ``$AUTORETRAIN_PROMETHEUS_HEADERS``.
        parameters: Sent with every query, such as ``dedup`` of Thanos or ``extra_label`` of VictoriaMetrics.
        ca_file: Certificates (PEM) of who may sign the server's, relative to the settings file; ``None``
            trusts the usual authorities.
        client_certificate: Our certificate (PEM), for a server that asks for one; relative to the settings
            file.
        client_key: Its private key (PEM), without a password; ``None`` when it stands in the same file.
        queries: How each metric is asked for, by its name.
    """

    url: str = Field(default="http://127.0.0.1:9090", pattern="^https?://", repr=False)
    model_label: str = "model"
    labels: dict[str, str] = Field(default_factory=dict)
    step_seconds: float = Field(default=300.0, gt=0)
    timeout_seconds: float = Field(default=10.0, gt=0)
    max_answer_mb: int = Field(default=64, ge=1)
    user: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, str | bool | int | tuple[str, ...]] = Field(default_factory=dict)
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    queries: dict[str, PrometheusQuerySettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _access(self) -> PrometheusSettings:
        wrong = [*self._wrong_headers(), *self._wrong_tls()]
        wrong += [
            (f"parameters.{name}", "is set by the query itself, so remove it")
            for name in sorted(OWN_PARAMETERS & set(self.parameters))
        ]
        if self.user is not None and "@" in urlsplit(self.url).netloc:
            wrong.append(("user", "stands in the url, too, so keep one of them"))
        if self.user is not None and ":" in self.user:
            wrong.append(("user", "holds a colon, which no user of basic authentication may"))
        if wrong:
            raise Flaws(wrong)
        return self

    def _wrong_headers(self) -> Iterator[tuple[str, str]]:
        for name, value in self.headers.items():
            if name.lower() == "authorization":
                fix = "belongs into the environment: AUTORETRAIN_PROMETHEUS_TOKEN, or user and its password"
                yield f"headers.{name}", fix
            elif _SECRET_HEADER.search(name):
                yield f"headers.{name}", "belongs into the environment: AUTORETRAIN_PROMETHEUS_HEADERS"
            elif name.lower() in OWN_HEADERS:
                yield f"headers.{name}", "is set by the client itself, so remove it"
            else:
                try:
                    checked_headers({name: value})
                except ValueError as error:
                    yield f"headers.{name}", str(error)

    def _wrong_tls(self) -> Iterator[tuple[str, str]]:
        if self.client_key is not None and self.client_certificate is None:
            yield "client_certificate", "is missing, and client_key needs the certificate that it belongs to"
        for name in ("ca_file", "client_certificate"):
            if getattr(self, name) is not None and not self.url.startswith("https://"):
                yield name, "needs a url that begins with https://"
