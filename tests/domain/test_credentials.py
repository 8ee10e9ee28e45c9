"""What is taken out of a text, and what is left alone."""

import pytest

from autoretrain.ports.credentials import presentable, without_credentials, without_userinfo
from autoretrain.ports.errors import ConfigurationError, Permanent, Problem, Temporary


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("asked http://ann:pw@host:80/path", "asked http://host:80/path"),
        ("asked http://ann:p@w@host/path", "asked http://host/path"),
        ("asked http://ann:p/w?x#y@host/path", "asked http://host/path"),
        ("asked 'http://:pw@host'", "asked 'http://host'"),
        ("http://token@host and http://b:c@other/x", "http://host and http://other/x"),
        ("postgresql+psycopg://ann:pw@db/ledger", "postgresql+psycopg://db/ledger"),
        ("host=db user=ann password=pw dbname=x", "host=db user=ann password=*** dbname=x"),
        ("password='p w' dbname=x", "password=*** dbname=x"),
        ("https://h/x?a=1&X-Amz-Signature=ab12&sslpassword=pw", "https://h/x?a=1&X-Amz-Signature=***&sslpassword=***"),
        ('{"db_password": "pw", "model": "m"}', '{"db_password": "***", "model": "m"}'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic YW5u'}", "{'authorization': 'Basic ***'}"),
        ("Illegal header value b'x'", "Illegal header value b'x'"),
    ],
)  # fmt: skip
def test_what_can_be_told_to_be_a_secret_is_taken_out(text: str, left: str) -> None:
    assert without_credentials(text) == left
    assert without_credentials(left) == left


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/api/2.0/mlflow?name=a@b",
        "http://host/path@2/x",
        "ann@example.org",
        "models:/boiler/3",
        'unexpected token: "}"',
        "accuracy 0.8000 is below the threshold of 0.92",
        "sqlite:////var/lib/ledger.db",
    ],
)
def test_what_is_none_is_left_alone(text: str) -> None:
    assert without_credentials(text) == text


def test_values_of_telling_variables_are_hidden_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_SECRET_KEY", "s3cr/t+value\n")
    monkeypatch.setenv("SOME_TOKEN", "short")
    monkeypatch.setenv("SOME_NAME", "a long plain value")
    text = "s3cr/t+value s3cr%2Ft%2Bvalue short a long plain value"
    assert without_credentials(text) == "*** *** short a long plain value"


@pytest.mark.parametrize(
    "variable",
    ["AUTORETRAIN_APPRISE_URL", "AUTORETRAIN_APPRISE_URL_ONCALL", "AUTORETRAIN_WEBHOOK_KEY_TICKETS"],
)
def test_addresses_and_keys_of_those_who_are_told_are_taken_out(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "pagerduty://r0uting@ap1key")
    assert without_credentials("cannot load pagerduty://r0uting@ap1key now") == "cannot load *** now"


def test_an_address_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "artefacts")
    assert without_userinfo("sftp://ann:pw@store/artefacts/1") == "sftp://store/artefacts/1"


def test_every_error_of_ours_is_without(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (
        Temporary("http://ann:pw@host"),
        Permanent("http://ann:pw@host"),
        ConfigurationError([Problem("x", "http://ann:pw@host", "y")]),
    ):
        assert "pw" not in str(error) + repr(error)


def test_a_cause_is_shown_only_if_nothing_behind_it_tells_a_secret() -> None:
    def chain(text: str) -> BaseException:
        try:
            try:
                raise OSError(text)
            except OSError as error:
                raise RuntimeError("it failed") from error
        except RuntimeError as error:
            return error

    good = chain("http://host is away")
    assert presentable(good) is good
    assert presentable(chain("http://ann:pw@host is away")) is None


@pytest.mark.parametrize(
    ("asked", "kept"), [(None, None), (0, None), (-1, None), (float("nan"), None), (5, 5), (1e12, 86_400.0)]
)
def test_a_wait_is_a_number_of_seconds_up_to_a_day(asked: float | None, kept: float | None) -> None:
    assert Temporary("busy", asked).retry_after == kept


def test_the_values_of_secret_headers_are_hidden_and_not_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORETRAIN_PROMETHEUS_HEADERS", "X-Tenant-Key: open-sesame\nX-Other: close-sesame")
    told = without_credentials("X-Tenant-Key was open-sesame, X-Other was close-sesame")
    assert told == "X-Tenant-Key was ***, X-Other was ***"
