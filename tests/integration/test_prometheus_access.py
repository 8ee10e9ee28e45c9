"""A real Prometheus behind TLS, client certificates and a password; and one with thousands of models."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificates, make_certificates
from prometheus_server import Server, backfill, serving

from autoretrain.adapters.metrics_prometheus import PrometheusMetrics, PrometheusQuery
from autoretrain.adapters.prometheus_access import tls_context
from autoretrain.entrypoints.container import build_ports
from autoretrain.entrypoints.settings import parse_settings
from autoretrain.ports.errors import ConfigurationError, Permanent
from autoretrain.ports.metrics import MetricQuery
from autoretrain.ports.values import TimeWindow

pytestmark = pytest.mark.service

START = datetime(2026, 3, 2, tzinfo=UTC)
EXPRESSION = 'model_accuracy{model=~"$models"}'
FLEET = [f"plant-{n % 7}.model-{n:05}" for n in range(5000)]
PASSWORD = "open-sesame"
HASH = "$2b$05$abcdefghijklmnopqrstuutXu9KzOt.1yBoZUeFWoT/914/JfszCO"
"""bcrypt of the password, at a low cost."""


def value_of(number: int) -> float:
    return (number % 100) / 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Certificates:
    return make_certificates(folder)


@pytest.fixture(scope="module")
def server(folder: Path, certificates: Certificates) -> Iterator[Server]:
    """Three samples of 5,000 models, behind TLS with client certificates and a password."""
    lines = ["# TYPE model_accuracy gauge"]
    for minute in (0, 5, 10):
        at = (START + timedelta(minutes=minute)).timestamp()
        lines += [f'model_accuracy{{model="{m}"}} {value_of(n)} {at:.0f}' for n, m in enumerate(FLEET)]
    own = certificates.server
    web = {
        "tls_server_config": {
            "cert_file": str(own.certificate),
            "key_file": str(own.key),
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": str(certificates.authority),
            "max_version": "TLS12",  # in 1.3 a refusal may be lost with the connection
        },
        "basic_auth_users": {"reader": HASH},
    }
    (folder / "web.yml").write_text(json.dumps(web))  # JSON is YAML
    client = certificates.client
    tls = tls_context(certificates.authority, client.certificate, client.key)
    data = backfill(folder, "\n".join([*lines, "# EOF\n"]))
    with serving(data, f"--web.config.file={folder / 'web.yml'}", tls=tls) as running:
        yield running


def settings_of(server: Server, folder: Path, **changes: Any) -> Mapping[str, Any]:
    """A settings file beside the certificates, as plain values."""
    model = {
        "data": {"path": "rows.csv", "time": "time", "label": "hot"},
        "training": {"command": ["python", "train.py"]},
    }
    prometheus = {
        "url": server.url,
        "user": "reader",
        "ca_file": "authority.pem",
        "client_certificate": "client.pem",
        "client_key": "client.key",
        "labels": {"boiler": FLEET[42]},
        "queries": {"accuracy": {"expression": EXPRESSION}},
        **changes,
    }
    given = {name: value for name, value in prometheus.items() if value is not None}
    return {"adapters": {"metrics": "prometheus"}, "prometheus": given, "models": {"boiler": model}}


def ask(server: Server, folder: Path, state: Path, **changes: Any) -> float | None:
    """The accuracy of the boiler, asked as a controller with these settings would."""
    values = {**settings_of(server, folder, **changes), "state": str(state)}
    window = TimeWindow(START, START + timedelta(minutes=15))
    metrics = build_ports(parse_settings(values, folder), {}).metrics
    (answer,) = metrics.read([MetricQuery("boiler", "accuracy", window)])
    return answer.value


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORETRAIN_PROMETHEUS_PASSWORD", PASSWORD)


@pytest.mark.usefixtures("password")
def test_settings_lead_through_tls_and_the_password(server: Server, folder: Path, tmp_path: Path) -> None:
    assert ask(server, folder, tmp_path) == pytest.approx(0.42)


def test_a_wrong_password(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORETRAIN_PROMETHEUS_PASSWORD", "close-sesame")
    with pytest.raises(Permanent, match=r"refuses the credentials \(401\)") as caught:
        ask(server, folder, tmp_path)
    assert "sesame" not in str(caught.value)


@pytest.mark.usefixtures("password")
def test_a_wrong_path(server: Server, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"no query API \(404 at /api/v1/query_range\): prometheus\.url"):
        ask(server, folder, tmp_path, url=f"{server.url}/prometheus")


@pytest.mark.usefixtures("password")
def test_an_authority_nobody_named_is_not_trusted(server: Server, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="certificate is not trusted: unable to get local issuer"):
        ask(server, folder, tmp_path, ca_file=None)


@pytest.mark.usefixtures("password")
def test_a_certificate_of_another_name_is_not_trusted(server: Server, folder: Path, tmp_path: Path) -> None:
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(Permanent, match="certificate is not trusted: Hostname mismatch"):
        ask(server, folder, tmp_path, url=elsewhere)


@pytest.mark.usefixtures("password")
def test_a_server_that_wants_our_certificate(server: Server, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="did not take our certificate"):
        ask(server, folder, tmp_path, client_certificate=None, client_key=None)


@pytest.mark.usefixtures("password")
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ca_file", None, "No such file"),
        ("ca_file", "no certificate", "certificate"),
        ("client_certificate", None, "No such file"),
        ("client_key", "no key", "cannot be used as our certificate and key"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    server: Server, folder: Path, tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_text(content)
    with pytest.raises(ConfigurationError, match=said) as caught:
        ask(server, folder, tmp_path, **{name: str(bad)})
    assert str(bad) in str(caught.value)
    assert "prometheus." in caught.value.problems[0].where


@pytest.mark.parametrize("size", [10, 1000, 5000])
def test_a_real_server_answers_for_a_fleet_in_one_request(
    server: Server, certificates: Certificates, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    asked: list[str] = []
    send = httpx.Client.send

    def counted(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        asked.append(request.method)
        return send(self, request, **options)

    monkeypatch.setattr(httpx.Client, "send", counted)
    client = certificates.client
    tls = tls_context(certificates.authority, client.certificate, client.key)
    queries = {"accuracy": PrometheusQuery(EXPRESSION)}
    source = PrometheusMetrics(server.url, queries, auth=("reader", PASSWORD), tls=tls)
    window = TimeWindow(START, START + timedelta(minutes=15))
    answers = source.read([MetricQuery(name, "accuracy", window) for name in FLEET[:size]])
    assert [answer.value for answer in answers] == pytest.approx([value_of(n) for n in range(size)])
    assert asked == ["POST"]
