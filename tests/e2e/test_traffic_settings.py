"""``[traffic]``: what can be built from it, every flaw at once, and what is said where it cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.router_gateway import GatewayRouter
from autoretrain.adapters.router_hash import HashRouter
from autoretrain.adapters.router_nginx import NginxRouter
from autoretrain.entrypoints.cli.main import run
from autoretrain.entrypoints.doctor.traffic import traffic
from autoretrain.entrypoints.routers import build_router
from autoretrain.entrypoints.settings import Settings, parse_settings
from autoretrain.ports.errors import ConfigurationError

PLACES = {"champion": "boiler", "candidate": "boiler-{version}", "route": "boiler"}


def settings(folder: Path, fleet: tuple[str, ...] = ("boiler", "pump"), **section: Any) -> Settings:
    models = {name: {"training": {"command": ["true"]}} for name in fleet}
    return parse_settings({"traffic": section, "models": models}, folder)


def flaws(folder: Path, fleet: tuple[str, ...] = ("boiler", "pump"), **section: Any) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        settings(folder, fleet, **section)
    return {problem.where.removeprefix("traffic."): problem.fix for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("router", "kind"),
    [("none", type(None)), ("hash", HashRouter), ("nginx", NginxRouter), ("gateway", GatewayRouter)],
)
def test_every_router_is_built_without_asking_anybody(tmp_path: Path, router: str, kind: type[Any]) -> None:
    assert type(build_router(settings(tmp_path, router=router, models={"boiler": PLACES}))) is kind
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("router", "shared"), [("none", set()), ("hash", {"boiler", "pump"}), ("nginx", {"boiler"})]
)
def test_whose_requests_can_be_shared(tmp_path: Path, router: str, shared: set[str]) -> None:
    section = settings(tmp_path, router=router, models={"boiler": PLACES}).traffic
    assert {model for model in ("boiler", "pump") if section.shares(model)} == shared


def test_a_flaw_of_each_field_is_named_for_nginx(tmp_path: Path) -> None:
    wrong = {"champion": "boiler; }", "candidate": "a b", "key": '$a"', "variable": "9"}
    found = flaws(
        tmp_path, router="nginx", models={"boiler": wrong, "pump": {**PLACES, "candidate": "boiler"}}
    )
    assert set(found) == {
        "models.boiler.champion",
        "models.boiler.candidate",
        "models.boiler.key",
        "models.boiler.variable",
        "models.pump.candidate",
    }
    assert "'boiler; }' is not the name of an upstream" in found["models.boiler.champion"]


def test_a_flaw_of_each_field_is_named_for_a_gateway(tmp_path: Path) -> None:
    found = flaws(
        tmp_path, router="gateway", models={"boiler": {"champion": "a_b", "candidate": "10.0.0.1:8"}}
    )
    assert set(found) == {"models.boiler.champion", "models.boiler.candidate", "models.boiler.route"}


@pytest.mark.parametrize("router", ["nginx", "gateway"])
def test_a_router_that_knows_no_place_is_refused(tmp_path: Path, router: str) -> None:
    assert flaws(tmp_path, router=router) == {
        "models": f"say for one model at least where {router} sends its requests"
    }


def test_two_models_in_one_place_are_told(tmp_path: Path) -> None:
    models = ("heat-2", "heat_2")
    found = flaws(tmp_path, models, router="nginx", models=dict.fromkeys(models, PLACES))
    assert found == {"models.heat_2.variable": "would be that of heat-2, too, so give it its own"}
    own = {"heat-2": PLACES, "heat_2": {**PLACES, "variable": "heat_other"}}
    settings(tmp_path, models, router="nginx", models=own)
    found = flaws(tmp_path, models, router="gateway", models=own)
    assert found == {"models.heat_2.route": "would be that of heat-2, too, so give it its own"}


def test_a_model_that_there_is_not_is_told(tmp_path: Path) -> None:
    assert flaws(tmp_path, router="nginx", models={"boilr": PLACES}) == {
        "models.boilr": "there is no such model"
    }


@pytest.mark.parametrize("model", ["模型", "x" * 200, "Heat Predictor (2)", ".."])
def test_any_model_has_a_variable_that_nginx_can_have(tmp_path: Path, model: str) -> None:
    section = settings(tmp_path, (model,), router="nginx", models={model: PLACES}).traffic
    variable = section.models[model].nginx(model).variable
    assert variable.isascii()
    assert variable.isidentifier()
    assert len(variable) <= 101


@pytest.mark.parametrize(
    ("section", "words", "said"),
    [
        ("", ["show"], 'traffic.router = "none": nobody shares requests'),
        ("", ["reset", "boiler"], 'traffic.router = "none": nobody shares requests'),
        ('[traffic]\nrouter = "hash"\n', ["reset", "boilr"], "there is no model 'boilr'; there are boiler"),
        ('[traffic]\nrouter = "hsh"\n', ["show"], "traffic.router = 'hsh'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, words: list[str], said: str
) -> None:
    file = tmp_path / "autoretrain.toml"
    file.write_text(f'{section}[models.boiler.training]\ncommand = ["true"]\n')
    assert run(["--settings", str(file), "traffic", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_doctor_names_the_first_models_of_a_trouble_and_counts_the_others(tmp_path: Path) -> None:
    models = tuple(f"m{number}" for number in range(5))
    places = {model: {"champion": model, "candidate": f"{model}-2"} for model in models}
    checked = settings(tmp_path, models, router="nginx", models=places, check=["true"])
    found = list(traffic(AutoRetrainPipeline(settings=checked)))
    assert [finding.status for finding in found] == ["problem"] * 4
    assert found[0].text.endswith("m0.conf is not there yet: autoretrain traffic reset 'm0' makes it")
    assert found[-1].text == "and so it is with 2 more"


def test_the_doctor_says_that_nobody_shares_or_who(tmp_path: Path) -> None:
    [nobody] = traffic(AutoRetrainPipeline(settings=settings(tmp_path)))
    assert (nobody.status, "nobody shares requests" in nobody.text) == ("ok", True)
    [all_of_them] = traffic(AutoRetrainPipeline(settings=settings(tmp_path, router="hash")))
    assert all_of_them.text == "hash shares requests of boiler, pump"
