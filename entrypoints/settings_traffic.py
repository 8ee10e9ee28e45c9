"""The section ``[traffic]``: who shares the requests of a model between its champion and a candidate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from ..adapters.gateway_route import SERVICE, GatewayPlaces
from ..adapters.nginx_split import PLACE, NginxPlaces
from ..ports.errors import Flaws
from .settings_sections import Section

_KEY = r"(\$\w+|\$\{\w+\}|[A-Za-z0-9._:-])+"
_VARIABLE = r"[a-z][a-z0-9_]{0,100}"
_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class TrafficModelSettings(Section):
    """Where the requests of one model go, for `nginx` and `gateway`.

    Attributes:
        champion: What serves the champion alias: an upstream (or address) of nginx, a Service of a cluster.
        candidate: The same for the candidate; `{version}` stands for its version.
        key: What stands for whoever asks, as variables of nginx: `$cookie_user`, `$http_x_tenant`.
        variable: Name that nginx's variables begin with; none makes one of the model's name.
        route: HTTPRoute of a cluster.
    """

    champion: str
    candidate: str
    key: str = "$remote_addr"
    variable: str | None = None
    route: str | None = None

    def nginx(self, model: str) -> NginxPlaces:
        """Where nginx sends requests of the model."""
        variable = self.variable or f"autoretrain_{re.sub('[^a-z0-9]+', '_', model.lower())}"
        return NginxPlaces(self.champion, self.candidate, self.key, variable[:101])

    def gateway(self, namespace: str) -> GatewayPlaces:
        """Where an HTTPRoute sends requests of the model."""
        return GatewayPlaces(namespace, self.route or "", self.champion, self.candidate)

    def flaws(self, router: str) -> Iterator[tuple[str, str]]:
        """What a router cannot use, by field."""
        pattern, kind = (PLACE, "an upstream of nginx") if router == "nginx" else (SERVICE, "a Service")
        if not re.fullmatch(pattern, self.champion):
            yield "champion", f"{self.champion!r} is not the name of {kind}; it is the same for all versions"
        if not re.fullmatch(pattern, self.candidate.replace("{version}", "1")):
            yield "candidate", f"{self.candidate!r} is not the name of {kind}, in which {{version}} may stand"
        if self.candidate == self.champion:
            yield "candidate", "is where the champion is, too, so that nothing would be shared"
        if router == "gateway" and not re.fullmatch(SERVICE, self.route or ""):
            yield "route", "name the HTTPRoute that has the requests of this model"
        if router == "nginx" and not re.fullmatch(_KEY, self.key):
            yield "key", f"{self.key!r} is no row of variables of nginx, such as $cookie_user"
        if router == "nginx" and self.variable and not re.fullmatch(_VARIABLE, self.variable):
            yield "variable", f"{self.variable!r} is no name: small letters, digits and _, a letter first"


class TrafficSettings(Section):
    """Who shares requests between champion and candidate.

    Attributes:
        router: `hash` writes files for `RequestRouter` in your serving program, `nginx` files that nginx
            includes, `gateway` weights of HTTPRoutes (Kubernetes Gateway API).
        folder: Where `hash` and `nginx` write their files, relative to the settings file.
        check: Command by which nginx checks its configuration; with `-T` it is also checked that a split has
            any effect.
        reload: Command by which nginx reads its configuration again.
        timeout_seconds: Either command is ended when it takes longer.
        namespace: Of the HTTPRoutes and Services; the cluster is that of `[kubernetes]`.
        models: Where the requests of each model go, by its name; `hash` needs none.
    """

    router: Literal["none", "hash", "nginx", "gateway"] = "none"
    folder: str = "traffic"
    check: tuple[str, ...] = Field(default=("nginx", "-T"), min_length=1)
    reload: tuple[str, ...] = Field(default=("nginx", "-s", "reload"), min_length=1)
    timeout_seconds: float = Field(default=30.0, gt=0, le=600, allow_inf_nan=False)
    namespace: str = Field(default="default", pattern=_NAME)
    models: dict[str, TrafficModelSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _usable(self) -> TrafficSettings:
        if flaws := [*self._of_models(), *self._told_apart()]:
            raise Flaws(flaws)
        return self

    def _of_models(self) -> Iterator[tuple[str, str]]:
        if self.router in ("none", "hash"):
            return
        if not self.models:
            yield "models", f"say for one model at least where {self.router} sends its requests"
        for model, places in self.models.items():
            for field, fix in places.flaws(self.router):
                yield f"models.{model}.{field}", fix

    def _told_apart(self) -> Iterator[tuple[str, str]]:
        """Two models in one place would be under one split."""
        taken: dict[object, str] = {}
        for model, places in self.models.items():
            if self.router == "nginx":
                field, place = "variable", places.nginx(model).variable
            else:
                field, place = "route", f"{places.route}/{places.champion}"
            other = taken.setdefault(place, model)
            if other != model and self.router in ("nginx", "gateway"):
                yield f"models.{model}.{field}", f"would be that of {other}, too, so give it its own"

    def shares(self, model: str) -> bool:
        """Whether the requests of a model can be shared."""
        return self.router == "hash" or (self.router != "none" and model in self.models)
