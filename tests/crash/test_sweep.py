"""A full cycle with real MLflow and runs, killed at every record and act, and finished by another process."""

from collections.abc import Iterator

import pytest
from crash_stores import STORES
from crash_sweep import Kill, Sweep, sweeping

_PARTS = 4
_SOME = ("compute.submit", "mlflow.create_model_version", "registry.set_champion", "notifier.send")


# One worker a store: to make a sweep ready takes seconds.
_GROUPS = {name: pytest.mark.xdist_group(f"sweep-{name}") for name in STORES}
_PARAMS = [
    pytest.param("sqlite", marks=_GROUPS["sqlite"]),
    pytest.param("postgres", marks=[_GROUPS["postgres"], pytest.mark.service]),
]


@pytest.fixture(scope="module", params=_PARAMS)
def sweep(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    with sweeping(tmp_path_factory.mktemp("sweep"), request.param) as ready:
        yield ready


def check(sweep: Sweep, kill: Kill) -> None:
    faults = sweep.faults(sweep.live(kill))
    assert not any(faults), f"killed {kill}: {faults}"


def test_the_cycle_has_everything_in_it(sweep: Sweep) -> None:
    end = sweep.whole.outcome
    assert end.jobs == [
        ["performance_degradation", "completed", "promote", True, True],
        ["manual", "cancelled", None, False, False],
    ]
    assert (end.alias, end.withdrawn) == ("1", ["2"])
    assert end.told == {
        "champion_below_floor": 1, "started": 2, "deployed": 1, "completed": 2, "rolled_back": 1,
    }  # fmt: skip
    assert not any(sweep.faults(sweep.whole))
    assert {name.partition(".")[0] for name in sweep.whole.points} >= {
        "ledger",
        "outbox",
        "mlflow",
        "tracker",
    }


@pytest.mark.parametrize("name", _SOME)
def test_a_kill_after_an_act_changes_nothing_in_the_end(sweep: Sweep, name: str) -> None:
    last = max(kill for kill in sweep.kills if kill.name == name and kill.side == "after")
    check(sweep, last)


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize("part", range(_PARTS))
def test_a_kill_at_any_record_or_act_changes_nothing_in_the_end(sweep: Sweep, part: int) -> None:
    for kill in sweep.kills[part::_PARTS]:
        check(sweep, kill)
