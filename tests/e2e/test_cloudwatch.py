"""Live metrics from CloudWatch, as a user sets them: judged by, and examined by the doctor."""

from pathlib import Path
from typing import Any

import pytest
from cloudwatch_server import CloudWatchServer, answer, cloudwatch_server, refusal, result, series_of
from local_http import Reply
from object_store_server import empty_bucket, serving
from project_kit import MODEL, NOW, Project

from autoretrain.entrypoints.doctor import Finding, examine
from autoretrain.entrypoints.pipeline import AutoRetrainPipeline
from autoretrain.entrypoints.settings import load_settings
from autoretrain.ports.registry import ModelVersion


class Serving:
    """The one question that CloudWatch alone leaves open: who serves."""

    def champions(self, models: Any) -> dict[str, ModelVersion]:
        return {name: ModelVersion(name, "1", "a" * 64, "elsewhere") for name in models}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame-seed-of-a-key")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def project(directory: Path, server: CloudWatchServer, *replies: Any) -> Project:
    server.replies = list(replies)
    return settings(directory, server.url)


def settings(directory: Path, address: str) -> Project:
    more = (
        f'adapters.metrics = "cloudwatch"\ncloudwatch.endpoint_url = "{address}"\n'
        'cloudwatch.namespace = "Plant/Models"\ncloudwatch.region = "eu-central-1"\n'
        "cloudwatch.period_seconds = 3600\n"
        'cloudwatch.queries.accuracy = { metric = "Right", count_statistic = "SampleCount" }\n'
    )
    return Project.create(directory, more=more)


def pipeline(directory: Path, server: CloudWatchServer, *replies: Any) -> AutoRetrainPipeline:
    return project(directory, server, *replies).pipeline(registry=Serving())


def hourly(call: dict[str, Any], accuracy: float) -> Reply:
    """This accuracy in every hour that is asked about, and ten predictions."""
    hours = range(int(call["StartTime"].timestamp()), int(call["EndTime"].timestamp()), 3600)
    at = [NOW.fromtimestamp(hour, NOW.tzinfo) for hour in hours]
    value = {"Average": accuracy, "SampleCount": 10.0}
    stats = [series_of(query)[2] for query in call["MetricDataQueries"]]
    return answer(*[result(n, [(each, value[stat]) for each in at]) for n, stat in enumerate(stats)])


@pytest.mark.parametrize(("accuracy", "due"), [(0.8, True), (0.97, False)])
def test_a_model_is_judged_by_it(tmp_path: Path, accuracy: float, due: bool) -> None:
    with cloudwatch_server() as server:
        verdict = pipeline(tmp_path, server, lambda call: hourly(call, accuracy)).judge(MODEL)
    assert (verdict.is_yes, verdict.is_no) == (due, not due)
    assert len(server.calls) == 1


def test_what_may_be_partial_is_unknown(tmp_path: Path) -> None:
    partial = answer(result(0, [(NOW, 0.1)], "PartialData"), result(1, [(NOW, 100.0)]))
    with cloudwatch_server() as server:
        verdict = pipeline(tmp_path, server, partial).judge(MODEL)
    assert verdict.is_unknown
    assert "not complete (PartialData)" in verdict.reason


def metrics_found(directory: Path, *replies: Any) -> list[Finding]:
    """What the doctor finds about metrics."""
    with cloudwatch_server() as server:
        project(directory, server, *replies)
        found = examine(directory)
    return [each for each in found if each.about in ("metrics", f"models.{MODEL}.metric")]


def address_of(directory: Path) -> str:
    """Where its settings say that CloudWatch is."""
    return str(load_settings(directory).cloudwatch.endpoint_url)


def test_the_doctor_names_the_permission_that_is_missing(tmp_path: Path) -> None:
    (found,) = metrics_found(tmp_path, refusal(403, "AccessDenied", "not authorized"))
    assert found.status == "problem"
    assert "lack the permission cloudwatch:GetMetricData; allow it in their IAM policy" in found.text
    assert "sesame" not in str(found)


def test_the_doctor_says_what_to_check_where_there_is_nothing(tmp_path: Path) -> None:
    answers, nothing = metrics_found(tmp_path, answer(result(0, []), result(1, [])))
    assert answers.text == (
        f"cloudwatch, namespace Plant/Models, {address_of(tmp_path)} answers: 0 of 1 metrics known"
    )
    assert (nothing.status, nothing.text) == (
        "warning",
        "accuracy is unknown: CloudWatch has no sample in the window",
    )
    assert nothing.fix == "check cloudwatch.queries.accuracy and namespace, region and all dimensions"


def test_the_doctor_is_content_with_what_it_can_read(tmp_path: Path) -> None:
    (found,) = metrics_found(tmp_path, lambda call: hourly(call, 0.9))
    assert found.status == "ok"
    assert found.text.endswith(" answers: 1 of 1 metrics known")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("ExpiredTokenException", "the AWS credentials have expired: renew them"),
        ("InvalidClientTokenId", "they are wrong, or of another region"),
        ("SignatureDoesNotMatch", "they are wrong, or of another region"),
    ],
)
def test_the_doctor_says_what_is_wrong_with_the_credentials(tmp_path: Path, code: str, says: str) -> None:
    (found,) = metrics_found(tmp_path, refusal(403, code, "the token sesame-seed is not one"))
    assert (found.status, says in found.text) == ("problem", True)
    assert "sesame" not in str(found)


def test_the_doctor_misses_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    (found,) = metrics_found(tmp_path, answer())
    assert (found.status, found.text.partition(":")[0]) == ("problem", "there are no AWS credentials")


def test_the_doctor_names_the_settings_of_an_address_where_nobody_is(tmp_path: Path) -> None:
    with cloudwatch_server() as server:
        project(tmp_path, server, answer())
    (found,) = [each for each in examine(tmp_path) if each.about == "metrics"]
    assert found.text.endswith("; check the network, and cloudwatch.region or cloudwatch.endpoint_url")


@pytest.mark.parametrize(
    ("allowed", "status", "says"),
    [
        (["monitoring:GetMetricData"], "ok", "answers: 0 of 1 metrics known"),
        (["cloudwatch:ListMetrics", "s3:*"], "problem", "lack the permission cloudwatch:GetMetricData"),
    ],
)
def test_a_server_that_asks_for_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: list[str], status: str, says: str
) -> None:
    """By moto, which calls the permission by the name of the service's host."""
    with serving() as aws, empty_bucket(aws, monkeypatch, tmp_path):
        aws.log_in(monkeypatch, allowed)
        settings(tmp_path, aws.address)
        found = [each for each in examine(tmp_path) if each.about == "metrics"]
    assert [each.status for each in found] == [status]
    assert says in found[0].text


def test_many_models_of_one_trouble_are_one_line(tmp_path: Path) -> None:
    with cloudwatch_server() as server:
        one = project(tmp_path, server, lambda call: answer(*nothing_of(call)))
        file = one.directory / "autoretrain.toml"
        text = file.read_text()
        section = text[text.index("[models.boiler]") :]
        more = [section.replace("models.boiler", f"models.boiler-{number}") for number in range(4)]
        file.write_text("\n".join([text, *more]))
        found = [each for each in examine(tmp_path) if "metric" in each.about]
    assert [each.about for each in found] == ["metrics", "metrics"]
    assert found[0].text.endswith("answers: 0 of 5 metrics known")
    said = (
        "accuracy of boiler, boiler-0, boiler-1 and 2 more is unknown: CloudWatch has no sample in the window"
    )
    assert found[1].text == said


def nothing_of(call: dict[str, Any]) -> list[Any]:
    """No point of anything that is asked for."""
    return [result(number, []) for number in range(len(call["MetricDataQueries"]))]
