"""Commands that end leave their metrics with a Pushgateway, as a user sets it up."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_project import Project
from local_http import LocalServer, Reply, local_server
from prometheus_client.parser import text_string_to_metric_families

from autoretrain.entrypoints.settings import load_settings
from autoretrain.ports.errors import ConfigurationError


@pytest.fixture
def gateway() -> Iterator[LocalServer]:
    with local_server() as running:
        yield running


def push_to(project: Project, address: str) -> None:
    with (project.directory / "autoretrain.toml").open("a") as file:
        file.write(f'\n[telemetry]\npushgateway = "{address}"\npush_job = "nightly"\n')


def test_what_one_turn_did_is_pushed_and_a_refusal_is_a_warning(tmp_path: Path, gateway: LocalServer) -> None:
    project = Project.create(tmp_path)
    push_to(project, gateway.url)
    gateway.answer = lambda request: Reply(503, b"full")
    done = project.call("run", "--once")
    assert (done.returncode, done.stdout) == (0, "looked at 1 model\n")
    assert f"nothing was pushed to the Pushgateway at {gateway.url}: it answers 503: full" in done.stderr
    assert "Traceback" not in done.stderr

    (request,) = gateway.requests
    assert request.path.startswith("/metrics/job/nightly/instance/")
    families = {family.name: family for family in text_string_to_metric_families(request.body.decode())}
    assert families["autoretrain_ticks"].samples[0].value == 1.0
    assert families["autoretrain_last_tick_timestamp_seconds"].samples[0].value > 0


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9091", "telemetry.pushgateway"),
        ("http://ann:s3same@127.0.0.1:9091", "remove it"),
        ("http://", "telemetry.pushgateway"),
    ],
)
def test_an_address_that_cannot_be_used(tmp_path: Path, address: str, said: str) -> None:
    (tmp_path / "autoretrain.toml").write_text(f'[telemetry]\npushgateway = "{address}"\n')
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_settings(tmp_path)
    assert "s3same" not in str(caught.value)
