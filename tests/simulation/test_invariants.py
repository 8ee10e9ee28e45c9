"""The invariants can say no: each finds the damage that it is there for."""

from collections.abc import Callable

import pytest

from autoretrain.entrypoints.testing.history import Move, Record, Scoring
from autoretrain.entrypoints.testing.invariants import check_world
from autoretrain.entrypoints.testing.simulated_world import Training, World, histories_of
from autoretrain.entrypoints.testing.simulation import Process

MODEL = "churn"


def promoted() -> World:
    world = World()
    world.serve(MODEL, 0.64)
    world.metrics.set(MODEL, "accuracy", 0.8)
    world.training[MODEL] = Training(boundary=0.5)
    process = Process(world, world.ports(), "main")
    process.run(lambda controller: controller.enrol([MODEL], world.now))
    assert process.tick()
    assert world.registry.aliases[MODEL] == "2"
    return world


def check(world: World) -> None:
    check_world(histories_of(world.ports(), world.fleet), world.record, world.ledger)


def _move(record: Record) -> None:
    record.moves.append(Move(MODEL, "2", "1", ours=True))


def _move_again(record: Record) -> None:
    record.moves.append(record.moves[-1])


def _start_again(record: Record) -> None:
    record.started.update(list(record.started))


def _score_other_rows(record: Record) -> None:
    [scoring] = record.scorings
    record.scorings[0] = Scoring("0" * 64, scoring.candidate, scoring.champion)


def _score_nothing(record: Record) -> None:
    record.scorings.clear()


def _forget_a_notice(record: Record) -> None:
    record.notices.pop()


def _lose_a_notice(record: Record) -> None:
    record.delivered.clear()


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (_move, "rule 1"),
        (_move_again, "rule 1"),
        (_start_again, "rule 1"),
        (_score_other_rows, "rule 4"),
        (_score_nothing, "rule 4"),
        (_forget_a_notice, "rule 7"),
        (_lose_a_notice, "rule 7"),
    ],
)
def test_damage_is_named(damage: Callable[[Record], None], rule: str) -> None:
    world = promoted()
    check(world)
    damage(world.record)
    with pytest.raises(AssertionError, match=rule):
        check(world)
