"""The page of settings is in step with the settings, and the training page with the contract."""

import ast
import json
import re
import runpy
import time
import tomllib
import typing
from collections.abc import Iterator

import pytest
from local_http import Request, local_server
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autoretrain.adapters.notifier_webhook import WebhookNotifier, body_of
from autoretrain.entrypoints.settings import Secrets, Settings, parse_settings
from autoretrain.entrypoints.settings_sections import TargetSettings
from autoretrain.entrypoints.targets import variables_of
from autoretrain.entrypoints.testing.notifier import NOTICE
from autoretrain.entrypoints.training import read_job
from autoretrain.ports.errors import ConfigurationError

from services import ROOT

DOCS = ROOT / "docs"
SETTINGS_PAGE = (DOCS / "settings.md").read_text(encoding="utf-8")


def test_the_tables_of_settings_are_as_the_script_writes_them() -> None:
    updated = runpy.run_path(str(DOCS / "make_settings.py"))["updated"]
    assert updated(SETTINGS_PAGE) == SETTINGS_PAGE, "run: python docs/make_settings.py"


def settings_classes(
    model: type[BaseModel], title: str = "", known: set[type[BaseModel]] | None = None
) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every table of the file, with the heading that a user would look for; the same table once."""
    known = set() if known is None else known
    if model in known:
        return
    known.add(model)
    yield title, model
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                named = {
                    "models": "NAME",
                    "queries": "METRIC",
                    "own_metrics": "METRIC",
                    "groups": "GROUP",
                    "compute": "BACKEND",
                    "targets": "NAME",
                }
                several = typing.get_origin(field.annotation) is dict
                key = f"{name}.{named[name]}" if several else name
                yield from settings_classes(kind, f"{title}.{key}".strip("."), known)


SIMPLE = [
    pytest.param(title, name, field, id=f"{title}.{name}".strip("."))
    for title, model in settings_classes(Settings)
    for name, field in model.model_fields.items()
    if not any(
        isinstance(kind, type) and issubclass(kind, BaseModel)
        for kind in (field.annotation, *typing.get_args(field.annotation))
    )
    # Where the file is, and the heading of a model's table: nothing that a user writes.
    if (title, name) not in {("", "base"), ("models.NAME", "name")}
]


@pytest.mark.parametrize(("title", "name", "field"), SIMPLE)
def test_every_setting_is_on_the_page_with_its_default(title: str, name: str, field: FieldInfo) -> None:
    heading = f"## `[{title}]`\n" if title else "## Top of the file\n"
    assert heading in SETTINGS_PAGE
    section = SETTINGS_PAGE.split(heading)[1].split("\n## ")[0]
    row = re.search(rf"^\| `{field.alias or name}` \| (.+?) \| .+ \| (.+) \|$", section, flags=re.MULTILINE)
    assert row, f"{name} is not under {heading}"
    shown = row[1].replace("&#124;", "|").strip("`")
    if field.is_required():
        assert shown == "**required**"
        return
    value: typing.Any = field.get_default(call_default_factory=True)
    value = json.dumps(value) if isinstance(value, tuple) and value else value
    empty = {None: "none", (): "[]"}.get(value) if not isinstance(value, dict) else "{}"
    assert shown.strip('"') == (empty or (str(value).lower() if isinstance(value, bool) else str(value)))


def test_every_secret_is_on_the_page() -> None:
    for name in Secrets.model_fields:
        assert f"| `AUTORETRAIN_{name.upper()}` |" in SETTINGS_PAGE


def test_the_settings_that_the_page_shows_can_be_used() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", SETTINGS_PAGE, flags=re.DOTALL)
    assert len(blocks) == 9
    values: dict[str, typing.Any] = {}
    for block in map(tomllib.loads, blocks):
        values = _joined(values, block)
    settings = parse_settings(values, ROOT)
    model = settings.models["boiler"]
    assert (model.cooldown_hours, model.trigger.performance_metric_threshold) == (12, 0.9)
    assert settings.ledger.store == "postgres"
    assert (settings.traffic.router, settings.traffic.models["boiler"].key) == ("nginx", "$cookie_user")
    assert settings.cloudwatch.queries["accuracy"].query().count == ("Right", "SampleCount")
    assert "$models" in settings.prometheus.queries["accuracy"].expression
    assert (settings.prometheus.user, settings.prometheus.labels) == (
        "autoretrain",
        {"boiler": "boiler-prod-eu"},
    )


def _joined(one: dict[str, typing.Any], other: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Two files as one, table by table; a choice that both make is the later one's."""
    shared = [name for name in one.keys() & other.keys() if isinstance(one[name], dict)]
    both = {name: _joined(one[name], other[name]) for name in shared}
    return {**one, **other, **both}


def test_the_settings_of_the_audit_page_can_be_used() -> None:
    page = (DOCS / "audit.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    server = {"tracking_uri": "http://127.0.0.1:5000"}
    keepers = [
        parse_settings({"mlflow": server, **tomllib.loads(block)}, ROOT).audit.keeper for block in blocks
    ]
    assert keepers == ["file", "mlflow", "command"]


def test_the_training_page_names_every_variable_of_the_contract() -> None:
    page = (DOCS / "training.md").read_text(encoding="utf-8")
    with pytest.raises(ConfigurationError) as nothing_set:
        read_job({})
    variables = [problem.where for problem in nothing_set.value.problems]
    assert len(variables) == 10
    for variable in variables:
        assert f"| `{variable}` |" in page


class TestNoticesPage:
    PAGE = (DOCS / "notices.md").read_text(encoding="utf-8")

    def test_its_settings_can_be_used(self) -> None:
        (block,) = re.findall(r"```toml\n(.*?)```", self.PAGE, flags=re.DOTALL)
        settings = parse_settings(tomllib.loads(block), ROOT)
        assert len(settings.notifier.routes) == 3
        for name, target in settings.notifier.targets.items():
            for variable in variables_of(target.kind, name):
                assert f"`{variable}`" in self.PAGE

    def test_every_kind_of_target_is_on_it(self) -> None:
        for kind in typing.get_args(TargetSettings.model_fields["kind"].annotation):
            variables = ", ".join(f"`{each}_<NAME>`" for each in variables_of(kind))
            assert f"| `{kind}` | {variables}".rstrip() in self.PAGE

    def test_every_kind_of_notice_is_on_it(self) -> None:
        row = re.search(r"^\| `kind` \| (.*)$", self.PAGE, flags=re.MULTILINE)
        assert row
        source = ast.parse((ROOT / "domain" / "notices.py").read_text(encoding="utf-8"))
        returned = [node.value for node in ast.walk(source) if isinstance(node, ast.Return)]
        told = {each.elts[0] for each in returned if isinstance(each, ast.Tuple) and len(each.elts) == 4}
        events = {each.value for each in told if isinstance(each, ast.Constant)}
        assert len(events) >= 9
        assert events | {"test"} == set(re.findall(r"`(\w+)`", row[1]))

    def test_the_body_has_the_fields_of_the_page_in_their_order(self) -> None:
        table = self.PAGE.split("| field | meaning |")[1].split("\n\n")[0]
        fields = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))
        (example,) = re.findall(r"```json\n(.*?)```", self.PAGE, flags=re.DOTALL)
        assert fields == list(body_of(NOTICE)) == list(json.loads(example))

    def test_the_snippet_tells_what_is_genuine(self) -> None:
        (snippet,) = re.findall(r"```python\n(.*?)```", self.PAGE, flags=re.DOTALL)
        names: dict[str, typing.Any] = {}
        exec(snippet, names)
        is_genuine, key = names["is_genuine"], "k" * 32
        with local_server() as server:
            WebhookNotifier(server.url, key).send(NOTICE)
            WebhookNotifier(server.url, key, clock=lambda: time.time() - 400).send(NOTICE)
        (header, body), (old_header, old_body) = map(_signed, server.requests)
        assert is_genuine(key, header, body)
        assert is_genuine(key, old_header, old_body, oldest=500)
        at, _, signature = header.partition(",v1=")
        nonsense = ("", "t", "t=,v1=", "t=x,v1=y", f"v1={signature}", at, "t=\u0663,v1=\xfc")
        wrong = [
            ("K" * 32, header, body),
            (key, header, body + b" "),
            (key, header, b""),
            (key, f"t={int(at[2:]) + 1},v1={signature}", body),
            (key, f"{at},v1={'0' * 64}", body),
            (key, old_header, old_body),
            *((key, each, body) for each in nonsense),
        ]
        assert not [case for case in wrong if is_genuine(*case)]


def _signed(request: Request) -> tuple[str, bytes]:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return headers["x-autoretrain-signature"], request.body
