"""Writes docs/settings.md from the settings classes: ``python docs/make_settings.py``.

Defaults, ranges and meanings come from the classes and their docstrings; only the prose around the tables stands
here. A test fails when the page is out of step.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autoretrain.domain.config import TriggerConfig
from autoretrain.domain.spec import PromotionSpec, TrainingSpec
from autoretrain.entrypoints.settings import (
    AdapterSettings,
    ComputeSettings,
    ControllerSettings,
    DataSettings,
    MlflowSettings,
    ModelSettings,
    PrometheusQuerySettings,
    PrometheusSettings,
    Secrets,
    Settings,
)

PAGE = Path(__file__).resolve().parent / "settings.md"

_INTRODUCTION = """\
# Settings

Everything that AutoRetrain knows about your models stands in one file, `autoretrain.toml`. It is looked for at
`--settings FILE`, then at `$AUTORETRAIN_SETTINGS`, then in this directory; a directory means the file of that name in it.
Relative paths start at the directory of the file.

A setting that does not exist, a value out of range and a rule that names no trigger are refused, all at once, each with its
place in the file. `autoretrain init` writes a small example, and `autoretrain doctor` checks it against the world.

*This page is written by `python docs/make_settings.py` from the settings classes.*
"""

_DEFAULTS = """\
## `[defaults]`

Values of `[defaults]` are laid under every model, table by table; what a model states itself wins. All that a model can
state can stand here, but for its name.

```toml
[defaults]
cooldown_hours = 12

[defaults.trigger]
performance_metric_threshold = 0.9

[models.boiler]                       # has both
data = { path = "boiler.csv", time = "time", label = "hot" }
training = { command = ["python", "train.py"] }
```
"""

_RULES = """\
A `rule` combines `performance`, `drift`, `schedule`, `manual` and the names of your own triggers by `&`, `|`, `~` and
parentheses. Each answers yes, no or unknown, and unknown stays unknown unless the other side decides (`unknown | yes` is
yes, `unknown & no` is no). Only a yes opens a job. A person may start one whatever the rule says.

A regressor must state `metric`, `threshold` and `promotion.floor`, since the defaults are a classifier's. Which way is
better is known for accuracy, precision, recall, f1, roc_auc, r2 (up) and mae, rmse, mape, log_loss, brier (down); any other
live metric needs `direction`.
"""

_QUERIES = """\
A query may hold two placeholders: `$models` becomes a regular expression of the names of all models that are asked about, so
that one request serves them all, and `$step` the distance between two points as a duration of PromQL. The answer needs one
series a model, told apart by `model_label`; every metric that a model names needs a query.

```toml
[adapters]
metrics = "prometheus"

[prometheus]
url = "http://127.0.0.1:9090"

[prometheus.queries.accuracy]
expression = 'sum by (model) (increase(right_total{model=~"$models"}[$step])) / sum by (model) (increase(labelled_total{model=~"$models"}[$step]))'
count = 'sum by (model) (increase(labelled_total{model=~"$models"}[$step]))'
```

With a `count`, the points of a window are weighted by it, and `min_rows` holds.
"""

_SECRETS = """\
## Environment

What must not stand in a file is taken from the environment.

| variable | default | meaning |
|---|---|---|
| `AUTORETRAIN_SETTINGS` | none | The settings file, or a directory that holds `autoretrain.toml`. |
"""

_SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("`[models.NAME]`", ModelSettings, _RULES),
    ("`[models.NAME.data]`", DataSettings, ""),
    ("`[models.NAME.trigger]`", TriggerConfig, ""),
    ("`[models.NAME.training]`", TrainingSpec, "The training command and what it gets: [training](training.md)."),
    ("`[models.NAME.promotion]`", PromotionSpec, ""),
    ("Top of the file", Settings, ""),
    ("`[adapters]`", AdapterSettings, ""),
    ("`[prometheus]`", PrometheusSettings, ""),
    ("`[prometheus.queries.METRIC]`", PrometheusQuerySettings, _QUERIES),
    ("`[mlflow]`", MlflowSettings, ""),
    ("`[compute]`", ComputeSettings, ""),
    ("`[controller]`", ControllerSettings, ""),
)
# Said by the file itself: where it is, and the heading of a model's table.
_IMPLIED = {(Settings, "base"), (ModelSettings, "name")}


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, _DEFAULTS]
    for title, model, prose in _SECTIONS:
        parts.append(f"## {title}\n\n{_table(model)}" + (f"\n{prose.rstrip()}\n" if prose else ""))
    return "\n".join([*parts, _SECRETS + "".join(_secrets())])


def _table(model: type[BaseModel]) -> str:
    meanings = _meanings(model)
    lines = ["| setting | default | values | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if (model, name) not in _IMPLIED and not _is_table(field):
            cells = (f"`{name}`", default(field), _values(field), meanings[name])
            lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _secrets() -> Iterator[str]:
    for name, meaning in _meanings(Secrets).items():
        yield f"| `AUTORETRAIN_{name.upper()}` | none | {meaning} |\n"


def _is_table(field: FieldInfo) -> bool:
    """Whether a field is a table of settings, which has a section of its own."""
    kinds = (field.annotation, *get_args(field.annotation))
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def default(field: FieldInfo) -> str:
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
    words = {str: "text", Path: "path", int: "whole number", float: "number", tuple: "list of text", dict: "table"}
    named = (words.get(get_origin(kind) or kind) for kind in kinds)
    return " ".join(part for part in (next(word for word in named if word), *_bounds(field)) if part)


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
                found[name] = re.sub(r"\s+", " ", text).replace("``None``", "none").replace("``", "`")
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
