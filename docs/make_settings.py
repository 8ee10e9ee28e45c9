"""Writes the tables of docs/settings.md: ``python docs/make_settings.py``.

Defaults, ranges and meanings come from the settings classes and their docstrings; the prose around the
tables is written in the page. A test fails when the page is out of step.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from autoretrain.domain.canary_spec import CanarySpec, CanaryStepSpec
from autoretrain.domain.config import TriggerConfig
from autoretrain.domain.guardrail_spec import GuardrailSpec
from autoretrain.domain.limits import Limit
from autoretrain.domain.metric_spec import OwnMetricSpec
from autoretrain.domain.routes import Route
from autoretrain.domain.spec import PromotionSpec, TrainingSpec
from autoretrain.domain.watch_spec import WatchSpec
from autoretrain.entrypoints.settings import Secrets, Settings
from autoretrain.entrypoints.settings_cloudwatch import CloudWatchQuerySettings, CloudWatchSettings
from autoretrain.entrypoints.settings_kubernetes import (
    ExpressionSettings,
    KubernetesSettings,
    NodeSettings,
    PodSettings,
    PreferenceSettings,
    VolumeSettings,
)
from autoretrain.entrypoints.settings_prometheus import PrometheusQuerySettings, PrometheusSettings
from autoretrain.entrypoints.settings_sections import (
    AdapterSettings,
    AuditSettings,
    ComputeSettings,
    ControllerSettings,
    DataSettings,
    LedgerSettings,
    LoggingSettings,
    MlflowSettings,
    ModelSettings,
    PredictionSettings,
    StorageSettings,
    TargetSettings,
    TelemetrySettings,
)
from autoretrain.entrypoints.settings_traffic import TrafficModelSettings, TrafficSettings

PAGE = Path(__file__).resolve().parent / "settings.md"

_TABLES: Mapping[str, type[BaseModel]] = {
    model.__name__: model
    for model in (
        Settings,
        ModelSettings,
        DataSettings,
        TriggerConfig,
        TrainingSpec,
        PromotionSpec,
        OwnMetricSpec,
        WatchSpec,
        GuardrailSpec,
        CanarySpec,
        CanaryStepSpec,
        LedgerSettings,
        StorageSettings,
        AdapterSettings,
        TargetSettings,
        Route,
        PrometheusSettings,
        PrometheusQuerySettings,
        CloudWatchSettings,
        CloudWatchQuerySettings,
        MlflowSettings,
        ComputeSettings,
        KubernetesSettings,
        PodSettings,
        NodeSettings,
        ExpressionSettings,
        PreferenceSettings,
        VolumeSettings,
        PredictionSettings,
        ControllerSettings,
        Limit,
        AuditSettings,
        LoggingSettings,
        TelemetrySettings,
        TrafficSettings,
        TrafficModelSettings,
        Secrets,
    )
}
# Said by the file itself: where it is, and the heading of a model's table.
_IMPLIED = {(Settings, "base"), (ModelSettings, "name")}
_KINDS = {
    str: "text",
    SecretStr: "text",
    Path: "path",
    int: "whole number",
    float: "number",
    tuple: "list of text",
    dict: "table",
    bool: "`true`, `false`",
}


def updated(page: str) -> str:
    """The page with its tables as they should be.

    Args:
        page: The page; a table stands between ``<!-- table: NAME OF THE CLASS -->`` and ``<!-- end -->``.
    """
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(?=<!-- end -->)",
        lambda found: found[1] + _table(_TABLES[found[2]]),
        page,
        flags=re.DOTALL,
    )


def _table(model: type[BaseModel]) -> str:
    meanings = _meanings(model)
    prefix = str(model.model_config.get("env_prefix", ""))
    lines = [f"| {'variable' if prefix else 'setting'} | default | values | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if (model, name) not in _IMPLIED and not _is_table(field):
            shown = f"{prefix}{name.upper()}" if prefix else field.alias or name
            cells = (f"`{shown}`", _default(field), _values(field), meanings[name])
            lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _is_table(field: FieldInfo) -> bool:
    """Whether a field is a table of settings, which has a section of its own."""
    kinds = (field.annotation, *get_args(field.annotation))
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def _default(field: FieldInfo) -> str:
    """The default as it would be written in TOML."""
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return "{}" if value == {} else f"{value}"


def _values(field: FieldInfo) -> str:
    """Choices, or type and range."""
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if kind is not type(None)]
    for kind in kinds:
        if get_origin(kind) is Literal:
            return ", ".join(f"`{_toml(choice)}`" for choice in get_args(kind))
    choices = get_args(field.annotation)
    if str in choices and any(get_origin(choice) is dict for choice in choices):
        return "text, or a table"
    if any(get_origin(part) is dict for part in get_args(field.annotation)):
        return "list of tables"
    named = next(_KINDS[kind] for kind in (get_origin(kind) or kind for kind in kinds) if kind in _KINDS)
    return " ".join((named, *_bounds(field)))


def _bounds(field: FieldInfo) -> Iterator[str]:
    for constraint in field.metadata:
        for name, sign in (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "to")):
            if (bound := getattr(constraint, name, None)) is not None:
                yield f"{sign} {bound:g}"


def _meanings(model: type[BaseModel]) -> Mapping[str, str]:
    """The ``Attributes`` of a class and of what it builds on, by name."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if kind.__module__.startswith("autoretrain") and kind.__doc__:
            _, _, attributes = inspect.cleandoc(kind.__doc__).partition("Attributes:\n")
            for name, text in re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", attributes, flags=re.MULTILINE):
                words = re.sub(r"\s+", " ", text).replace("``None``", "none").replace("``", "`")
                found[name] = words[0].upper() + words[1:]
    return found


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
