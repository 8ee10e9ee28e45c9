"""Wrong settings: every problem at once, each with its path in the file, and nothing begun."""

from pathlib import Path

import pytest

from autoretrain import AutoRetrainPipeline, TriggerConfig
from autoretrain.entrypoints.settings import load_settings
from autoretrain.ports.errors import ConfigurationError

MODEL = """
[models.boiler]
data = { path = "rows.csv", time = "time", label = "hot" }
training.command = ["python", "train.py"]
"""


def problems(directory: Path, text: str) -> dict[str, str]:
    """What is wrong with a settings file: by path, the whole line that is printed."""
    (directory / "autoretrain.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        AutoRetrainPipeline(settings=directory)
    assert not (directory / ".autoretrain").exists()
    return {problem.where: str(problem) for problem in caught.value.problems}


def test_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"no such file; 'autoretrain init' writes a project"):
        AutoRetrainPipeline(settings=tmp_path / "absent.toml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTORETRAIN_SETTINGS", raising=False)
    with pytest.raises(ConfigurationError, match=r"settings = autoretrain\.toml: no such file"):
        AutoRetrainPipeline()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[models.boiler\nrule = 1", "at line 1"),
        (b"state = 'a'\nstate = 'b'\n", "at line 2"),
        (b"\xff\xfe\x00garbage", "cannot be read as TOML"),
    ],
)
def test_a_file_that_is_not_toml(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "autoretrain.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says) as caught:
        AutoRetrainPipeline(settings=file)
    assert str(file) in str(caught.value)


def test_everything_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
        colour = "blue"
        adapters = { metrics = "graphite", notifier = "slack" }
        controller.wait_seconds = 60
        [models.boiler]
        metric = "accuracy"
        min_rows = "many"
        trigger = { schedule_expression = "0 0 * *", drift_threshold = 2, training_window_days = 3 }
        data = { path = "rows.csv", label = "hot" }
        [models.kiln]
        task = "clustering"
        training = { command = [] }
        """,
    )
    assert sorted(found) == [
        "adapters.metrics",
        "colour",
        "controller.wait_seconds",
        "models.boiler.data.time",
        "models.boiler.min_rows",
        "models.boiler.training",
        "models.boiler.trigger.drift_threshold",
        "models.boiler.trigger.schedule_expression",
        "models.boiler.trigger.training_window_days",
        "models.kiln.task",
        "models.kiln.training.command",
    ]
    assert found["colour"] == "colour: there is no such setting; check its spelling"
    assert found["models.boiler.data.time"] == "models.boiler.data.time: is missing; it must be set"
    assert (
        "'graphite': input should be 'rescoring', 'prometheus' or 'cloudwatch'" in found["adapters.metrics"]
    )


@pytest.mark.parametrize("expression", ["every sunday", "0 0 * *", "61 0 * * *", "", "0 0 31 2 *"])
def test_a_wrong_cron_expression(tmp_path: Path, expression: str) -> None:
    found = problems(tmp_path, f'{MODEL}trigger.schedule_expression = "{expression}"\n')
    assert list(found) == ["models.boiler.trigger.schedule_expression"]
    with pytest.raises(ValueError, match="schedule_expression"):
        TriggerConfig(schedule_expression=expression)


@pytest.mark.parametrize("value", ["1.01", "-0.1", "nan", "inf", '"high"'])
@pytest.mark.parametrize("name", ["performance_metric_threshold", "drift_threshold"])
def test_a_threshold_out_of_range(tmp_path: Path, name: str, value: str) -> None:
    found = problems(tmp_path, f"{MODEL}trigger.{name} = {value}\n")
    assert list(found) == [f"models.boiler.trigger.{name}"]


def test_a_floor_below_the_one_that_never_bends(tmp_path: Path) -> None:
    found = problems(tmp_path, f"{MODEL}promotion.floor = 0.8\n")
    where = "models.boiler.promotion.floor"
    assert found == {where: f"{where}: cannot be below 0.85 for a classifier"}


def test_a_regressor_that_does_not_say_how_it_is_judged(tmp_path: Path) -> None:
    found = problems(tmp_path, f'{MODEL}task = "regression"\n')
    assert sorted(found) == [
        "models.boiler.metric",
        "models.boiler.promotion.floor",
        "models.boiler.threshold",
    ]
    assert "a regressor must state it" in found["models.boiler.threshold"]
    stated = f'{MODEL}task = "regression"\nmetric = "mae"\nthreshold = 3\npromotion.floor = 0\n'
    found = problems(tmp_path, stated)
    assert found == {
        "models.boiler.promotion.floor": "models.boiler.promotion.floor: R² of a regressor must be above 0"
    }


def test_a_measure_of_ones_own_needs_a_direction(tmp_path: Path) -> None:
    found = problems(tmp_path, f'{MODEL}metric = "complaints"\n')
    assert list(found) == ["models.boiler.direction"]


@pytest.mark.parametrize(
    ("rule", "says"),
    [("performance | drfit", "no trigger named 'drfit'"), ("performance |", "cannot be read")],
)
def test_a_rule_that_cannot_be_read(tmp_path: Path, rule: str, says: str) -> None:
    assert says in problems(tmp_path, f'{MODEL}rule = "{rule}"\n')["models.boiler.rule"]


def test_prometheus_without_its_queries(tmp_path: Path) -> None:
    kiln = MODEL.replace("boiler", "kiln") + 'metric = "f1"\n'
    found = problems(tmp_path, 'adapters.metrics = "prometheus"\n' + MODEL + kiln)
    assert sorted(found) == ["prometheus.queries.accuracy", "prometheus.queries.f1"]


CLOUDWATCH = 'adapters.metrics = "cloudwatch"\ncloudwatch.queries.accuracy.metric = "Right"\n'


def test_cloudwatch_without_its_queries_and_namespace(tmp_path: Path) -> None:
    kiln = MODEL.replace("boiler", "kiln") + 'metric = "f1"\n'
    found = problems(tmp_path, CLOUDWATCH + MODEL + kiln)
    assert sorted(found) == ["cloudwatch.namespace", "cloudwatch.queries.f1"]


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("namespace", '":models"', "no colon first"),
        ("region", '"EU West"', "is no name of a region, as eu-central-1 is one"),
        ("endpoint_url", '"monitoring.example"', "starts with http:// or https://"),
        ("endpoint_url", '"https://ann:sesame@monitoring.example"', "holds no user"),
        ("period_seconds", "90", "multiple of 60"),
        ("period_seconds", "0", "greater than or equal to 60"),
        ("timeout_seconds", "nan", "finite"),
        ("model_dimension", '""', "1 to 255 characters"),
        ("dimensions", '{ model = "boiler" }', "is the model's, so leave it out"),
        ("dimensions.stage", '"ä"', "1 to 1024 characters of ASCII"),
        ("queries.accuracy.statistic", '"Mean"', "is no statistic of CloudWatch, which are Average"),
        ("queries.accuracy.count_statistic", '"p100.x"', "is no statistic of CloudWatch"),
        ("queries.accuracy.count_metric", '"Zählung"', "255 characters of ASCII"),
        ("queries.accuracy.count", '"Labelled"', "there is no such setting"),
    ],
)
def test_what_cloudwatch_cannot_be_asked(tmp_path: Path, where: str, value: str, says: str) -> None:
    found = problems(tmp_path, f"{CLOUDWATCH}cloudwatch.{where} = {value}\n{MODEL}")
    assert says in found[f"cloudwatch.{where}"]
    assert "sesame" not in "".join(found.values())


def test_a_server_that_has_no_address_of_http(tmp_path: Path) -> None:
    assert list(problems(tmp_path, f'prometheus.url = "localhost:9090"\n{MODEL}')) == ["prometheus.url"]


@pytest.mark.parametrize(
    "setting",
    [
        'slack_webhook_url = "https://hooks.example/T0/sesame"',
        'prometheus.url = "ftp://ann:sesame@prometheus.example"',
        'mlflow = { tracking_url = "https://ann:sesame@mlflow.example" }',
        'prometheus = "https://ann:sesame@prometheus.example"',
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path, setting: str) -> None:
    found = problems(tmp_path, f"{setting}\n{MODEL}")
    assert len(found) == 1
    assert "sesame" not in "".join(found.values())


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    (tmp_path / "autoretrain.toml").write_text(
        'prometheus.url = "https://ann:sesame@prometheus.example"\n'
        f'mlflow.tracking_uri = "https://ann:sesame@mlflow.example"\n{MODEL}'
    )
    settings = load_settings(tmp_path)
    assert settings.tracking_uri == "https://ann:sesame@mlflow.example"
    assert "sesame" not in repr(settings) + str(settings)


def test_a_file_in_the_place_of_the_state_directory(tmp_path: Path) -> None:
    (tmp_path / "autoretrain.toml").write_text(MODEL)
    (tmp_path / ".autoretrain").write_text("not a directory")
    with pytest.raises(ConfigurationError, match=r"state = .*\.autoretrain.* cannot be used as a directory"):
        AutoRetrainPipeline(settings=tmp_path)


@pytest.mark.parametrize(
    ("line", "where", "said"),
    [
        ('labels = { kiln = "k" }', "labels.kiln", "there is no such model"),
        ('headers = { Authorization = "Bearer s3same" }', "headers.Authorization", "PROMETHEUS_TOKEN"),
        ('headers = { X-Api-Key = "s3same" }', "headers.X-Api-Key", "AUTORETRAIN_PROMETHEUS_HEADERS"),
        ('headers = { Host = "elsewhere" }', "headers.Host", "set by the client itself"),
        ('headers = { "A b" = "x" }', "headers.A b", "a character that none may hold"),
        ('headers = { A = "x\\ny" }', "headers.A", "line break"),
        ('parameters = { query = "up" }', "parameters.query", "set by the query itself"),
        ('ca_file = "ca.pem"', "ca_file", "https://"),
        ('client_certificate = "c.pem"', "client_certificate", "https://"),
        ('url = "https://p"\nclient_key = "c.key"', "client_certificate", "is missing"),
        ('url = "https://ann:s3same@p"\nuser = "ann"', "user", "stands in the url, too"),
        ('user = "ann:s3same"', "user", "colon"),
        ("max_answer_mb = 0", "max_answer_mb", "greater than or equal to 1"),
    ],
)
def test_access_to_prometheus(tmp_path: Path, line: str, where: str, said: str) -> None:
    found = problems(tmp_path, f"[prometheus]\n{line}\n{MODEL}")
    assert list(found) == [f"prometheus.{where}"]
    assert said in found[f"prometheus.{where}"]
    assert "s3same" not in str(found)


@pytest.mark.parametrize("labels", ['{ boiler = "kiln" }', '{ boiler = "x", kiln = "x" }'])
def test_two_models_of_one_label(tmp_path: Path, labels: str) -> None:
    kiln = MODEL.replace("boiler", "kiln")
    (where,) = problems(tmp_path, f"prometheus.labels = {labels}\n{MODEL}{kiln}").items()
    assert where[0].startswith("prometheus.labels.")
    assert "too, so give it its own" in where[1]


def test_models_may_swap_labels(tmp_path: Path) -> None:
    kiln = MODEL.replace("boiler", "kiln")
    text = f'prometheus.labels = {{ boiler = "kiln", kiln = "boiler" }}\n{MODEL}{kiln}'
    (tmp_path / "autoretrain.toml").write_text(text)
    assert load_settings(tmp_path).prometheus.labels == {"boiler": "kiln", "kiln": "boiler"}


@pytest.mark.parametrize(
    ("user", "variables", "where", "said"),
    [
        ("ann", {}, "AUTORETRAIN_PROMETHEUS_PASSWORD", "is missing"),
        (None, {"PASSWORD": "s3same"}, "prometheus.user", "is missing"),
        ("ann", {"PASSWORD": "s3same", "TOKEN": "t0ken"}, "prometheus.user", "takes one of them"),
        (None, {"TOKEN": "s3\u00fcsame"}, "AUTORETRAIN_PROMETHEUS_TOKEN", "no header may hold"),
        (None, {"HEADERS": "X-Key: a\ns3same"}, "AUTORETRAIN_PROMETHEUS_HEADERS", "line 2 is no header"),
    ],
)
def test_secrets_of_prometheus(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: str | None,
    variables: dict[str, str],
    where: str,
    said: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"AUTORETRAIN_PROMETHEUS_{name}", value)
    given = f'[prometheus]\nuser = "{user}"\n' if user else "[prometheus]\n"
    query = '[prometheus.queries.accuracy]\nexpression = "accuracy"\n'
    text = f'adapters.metrics = "prometheus"\n{given}{query}{MODEL}'
    (tmp_path / "autoretrain.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        AutoRetrainPipeline(settings=tmp_path)
    (problem,) = caught.value.problems
    assert problem.where == where
    assert said in str(problem)
    assert "same" not in str(problem)


def test_flaws_of_all_sections_are_told_at_once_and_each_as_one(tmp_path: Path) -> None:
    """Names and patterns of the user's may hold what stands between a field and its fix, or two flaws."""
    text = (
        'limits.compute.slurm.jobs_per_day = 1\nlimits.groups."heat: a; b".jobs_per_day = 1\n'
        'prometheus.labels.kiln = "x"\n[[notifier.routes]]\nmodels = ["boi; ler: 7"]\ntargets = ["default"]\n'
    )
    assert problems(tmp_path, text + MODEL) == {
        "limits.compute.slurm": "limits.compute.slurm: there is no such compute backend; there is subprocess",
        "limits.groups.heat: a; b": "limits.groups.heat: a; b: no model is of this group",
        "prometheus.labels.kiln": "prometheus.labels.kiln: there is no such model",
        "notifier.routes.0.models": "notifier.routes.0.models: no model has a name like 'boi; ler: 7'",
    }


def test_a_watch_that_its_metrics_cannot_serve(tmp_path: Path) -> None:
    """Prometheus has the metric of whatever serves: the version before would be compared with itself."""
    query = '[adapters]\nmetrics = "prometheus"\n[prometheus.queries.accuracy]\nexpression = "accuracy"\n'
    watch = '[models.boiler.watch]\ndays = 7\nmetric = "f1"\nbaseline = "previous"\n'
    found = problems(tmp_path, query + MODEL + watch)
    assert sorted(found) == ["models.boiler.watch.baseline", "prometheus.queries.f1"]
    assert (
        "prometheus cannot score the version before; use 'validated'" in found["models.boiler.watch.baseline"]
    )


def test_a_watch_that_can_show_nothing(tmp_path: Path) -> None:
    found = problems(tmp_path, MODEL + "[models.boiler.watch]\ndays = 3\ndeadline_days = 2\n")
    assert sorted(found) == ["models.boiler.watch.days", "models.boiler.watch.deadline_days"]
    assert "3 batches can never show harm at alpha 0.05; watch 4 or more" in found["models.boiler.watch.days"]


def test_measures_of_ones_own(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        MODEL
        + """
        direction = "up"
        metric = "cost"
        promotion = { metric = "cost", scale = "error-reduction" }
        own_metrics.cost = { function = "costs:cost", direction = "down" }
        own_metrics.accuracy = { function = "costs:cost", direction = "up" }
        own_metrics."a b" = { function = "costs:cost", direction = "up" }
        """,
    )
    assert {
        where.removeprefix("models.boiler."): line.partition(": ")[2] for where, line in found.items()
    } == {
        "own_metrics.accuracy": "is computed already; give yours another name",
        "own_metrics.a b": "name it with letters, digits and underscores, beginning with a letter",
        "own_metrics.cost.best": "state the value of a perfect model, since promotion.scale is a share of "
        "the way to it",
        "direction": "own_metrics.cost says 'down', so leave this out",
    }


def test_a_measure_of_ones_own_says_where_it_is_and_which_way_is_better(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        MODEL
        + """
        own_metrics.cost = { function = "costs.cost" }
        own_metrics.other = { function = "costs:other", direction = "sideways", best = nan }
        """,
    )
    assert set(found) == {
        f"models.boiler.own_metrics.{field}"
        for field in ("cost.function", "cost.direction", "other.direction", "other.best")
    }
    assert '"module:function"' in found["models.boiler.own_metrics.cost.function"]


def test_the_comparison_names_the_measures_there_are(tmp_path: Path) -> None:
    text = (
        MODEL
        + 'promotion.metric = "costs"\nown_metrics.cost = { function = "costs:cost", direction = "down" }'
    )
    assert "ece, cost" in problems(tmp_path, text)["models.boiler.promotion.metric"]
