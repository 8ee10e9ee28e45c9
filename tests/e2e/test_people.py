"""Who acts, where the system has no name for its user: a container under a number that no file knows."""

import pytest

from autoretrain.entrypoints.people import current_user


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1_987_654_321)  # no file knows it
    assert current_user() == "user 1987654321"


def test_a_user_has_the_name_that_the_system_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert current_user() == "root"
    monkeypatch.setenv("LOGNAME", "ann")
    assert current_user() == "ann"
