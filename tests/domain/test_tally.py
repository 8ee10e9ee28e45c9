"""What a tick tells of the fleet, the lease and the backlog."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.adapters.memory import MemoryLedger
from autoretrain.domain.controller import Controller
from autoretrain.domain.jobs import JobStatus, RetrainingJob
from autoretrain.domain.sealing import Draft
from autoretrain.domain.state import ModelState
from autoretrain.domain.tally import LeaseWatch, Standing, ended_jobs
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.entrypoints.testing import World
from autoretrain.ports.agenda import Claim, shard_of
from autoretrain.ports.errors import LeaseLost, Temporary
from autoretrain.ports.ledger import Append
from autoretrain.ports.telemetry import EndedJob
from autoretrain.ports.values import TimeWindow

T0 = datetime(2026, 3, 2, tzinfo=UTC)

_MODELS = st.sampled_from(["a", "b", "c"])
_UNKNOWN = st.sets(st.sampled_from(["performance", "drift"]))


@given(st.lists(st.tuples(_MODELS, _UNKNOWN, st.booleans(), st.booleans())))
def test_the_standing_is_that_of_the_last_states(
    steps: list[tuple[str, set[str], bool, bool]],
) -> None:
    standing = Standing()
    last: dict[str, tuple[set[str], bool]] = {}
    for model, unknown, conflict, forgotten in steps:
        verdicts = {
            name: {"answer": "unknown" if name in unknown else "no"} for name in ("performance", "drift")
        }
        standing.note(ModelState(model, verdicts=verdicts, conflict="7" if conflict else None))
        last[model] = unknown, conflict
        if forgotten:
            standing.forget(model)
            del last[model]
    counts = {name: sum(name in unknown for unknown, _ in last.values()) for name in ("performance", "drift")}
    assert standing.unknown == {name: count for name, count in counts.items() if count}
    assert standing.conflicts == sum(conflict for _, conflict in last.values())


def claim_of(mine: str = "", others: str = "") -> Claim:
    """A claim of one who holds some of four shards, while another holds some of them."""
    leases = {int(shard): 1 for shard in mine}
    return Claim(4, leases, {**dict.fromkeys(leases, "one"), **{int(shard): "two" for shard in others}})


def test_a_lease_is_lost_once() -> None:
    watch = LeaseWatch("one")
    watch.claimed(claim_of(mine="0123"))
    assert watch.taken() == 0
    watch.lost("m")
    lost = str(shard_of("m", 4))
    watch.claimed(claim_of("0123".replace(lost, ""), others=lost))
    assert (watch.taken(), watch.taken()) == (1, 0)


def test_a_lease_that_was_handed_back_is_not_lost() -> None:
    watch = LeaseWatch("one")
    watch.claimed(claim_of(mine="0123"))
    watch.claimed(claim_of(mine="01"))
    watch.claimed(claim_of(mine="01", others="23"))
    assert watch.taken() == 0
    watch.claimed(claim_of(mine="0", others="123"))
    assert watch.taken() == 1


def controller_of(world: World, name: str = "one") -> Controller:
    made = Controller(world.ports(), world.fleet, name, monotonic=world.clock)
    made.enrol(world.fleet, world.now)
    return made


@pytest.fixture
def world() -> World:
    """Two models that serve, one of which nobody measures."""
    world = World()
    for model in world.fleet:
        world.serve(model, boundary=0.5)
    world.metrics.set("churn", "accuracy", 0.99)
    world.metrics.set("fraud", "accuracy", None)
    return world


def test_a_tick_tells_how_the_fleet_stands(world: World) -> None:
    controller = controller_of(world)
    report = controller.tick(world.now)
    unknown = {name: count for name, count in report.unknown.items() if name == "performance"}
    assert (unknown, report.conflicts) == ({"performance": 1}, 0)

    world.now += timedelta(hours=1)
    world.serve("churn", boundary=0.4)
    world.metrics.set("fraud", "accuracy", 0.99)
    report = controller.tick(world.now)
    assert (report.unknown.get("performance"), report.conflicts) == (None, 1)

    # Another process knows the same from the ledger alone, and tells it only while it holds the lease.
    other = controller_of(world, "two")
    waiting = other.tick(world.now)
    assert (waiting.holds_lease, waiting.lease_holder, waiting.conflicts) == (False, "one", 0)
    world.ledger.release("one")
    assert other.tick(world.now).conflicts == 1


@pytest.mark.parametrize(
    ("status", "deployed", "outcome"),
    [
        ("completed", True, "deployed"),
        ("completed", False, "not_deployed"),
        ("failed", False, "failed"),
        ("cancelled", False, "cancelled"),
    ],
)
def test_an_ended_job_is_told_with_its_outcome_and_time(status: str, deployed: bool, outcome: str) -> None:
    window = TimeWindow(T0, T0 + timedelta(days=1))
    job = RetrainingJob(
        "j1", "m", TriggerType.DRIFT, JobStatus(status), T0, "drift", window, window, deployed=deployed
    )
    ended = replace(job, completed_at=T0 + timedelta(minutes=7))
    state = ModelState("m", jobs={"j0": job, "j1": ended})
    drafts = [Draft("run.ended", {"job_id": "j0"}), Draft("job.closed", {"job_id": "j1"})]
    assert ended_jobs(state, drafts) == [EndedJob("j1", outcome, 420.0)]
    assert ended_jobs(state, drafts[:1]) == []


def test_a_tick_tells_each_job_that_ended_once(world: World) -> None:
    world.metrics.set("churn", "accuracy", 0.5)
    controller = controller_of(world)
    told: list[EndedJob] = []
    for _ in range(40):
        told += controller.tick(world.now).jobs
        world.now += timedelta(minutes=10)
    ended = [job for model in world.fleet for job in controller.state(model).jobs.values() if not job.is_open]
    assert ended
    assert sorted(job.job_id for job in told) == sorted(job.job_id for job in ended)


def test_a_tick_tells_how_overdue_the_most_overdue_model_was(world: World) -> None:
    controller = controller_of(world)
    assert controller.tick(world.now).lag_seconds == 0.0
    world.now += timedelta(hours=1, seconds=90)
    late = controller.tick(world.now)
    assert (sorted(late.looked), late.lag_seconds) == (["churn", "fraud"], 90.0)
    idle = controller.tick(world.now)
    assert (idle.looked, idle.lag_seconds) == ((), 0.0)


def test_a_tick_tells_what_has_not_arrived(world: World) -> None:
    world.notifier.refusal = Temporary("away")
    controller = controller_of(world)
    controller.tick(world.now)
    world.now += timedelta(hours=1)
    world.move_alias("churn", None)
    controller.tick(world.now)
    world.now += timedelta(minutes=10)
    report = controller.tick(world.now)
    assert (report.notices_sent, report.notices_waiting, report.notices_dead) == (0, 1, 0)
    assert report.notices_age_seconds == 600.0
    (outgoing,) = world.ledger.due(world.now + timedelta(days=1))
    world.ledger.postpone(outgoing.notice.id, None, "revoked")
    assert controller.tick(world.now).notices_dead == 1


class Taken(MemoryLedger):
    """A ledger whose lease is taken from its holder in the middle of a tick."""

    def __init__(self, world: World) -> None:
        super().__init__(clock=world.clock)
        self.taken = False

    def append(self, batch: Append) -> None:
        if self.taken and batch.epoch is not None:
            raise LeaseLost("it is another's")
        super().append(batch)


def test_a_lost_lease_is_told_by_the_next_tick(world: World) -> None:
    ledger = Taken(world)
    ports = replace(world.ports(), ledger=ledger, agenda=ledger, limits=ledger, outbox=ledger)
    controller = Controller(ports, world.fleet, "one", monotonic=world.clock)
    controller.enrol(world.fleet, world.now)
    ledger.taken = True
    assert controller.tick(world.now).leases_lost == 1
    ledger.release("one")
    ledger.claim(world.now, "two", 20.0)
    report = controller.tick(world.now)
    assert (report.holds_lease, report.lease_holder, report.leases_lost) == (False, "two", 0)
