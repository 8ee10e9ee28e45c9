"""The real controller under everything that can happen, in any order."""

import os
from dataclasses import replace
from tempfile import TemporaryDirectory

import pytest
from hypothesis import seed, settings
from hypothesis.stateful import run_state_machine_as_test

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.domain.world import Ports
from autoretrain.entrypoints.testing.simulation import RetrainingMachine, World

SEED = int(os.environ.get("AUTORETRAIN_SIMULATION_SEED") or 1)
"""The same in every run; `make soak` takes others."""


class OnSqlite(RetrainingMachine):
    """The same, with the embedded ledger in the place of the one in memory."""

    def make_ports(self, world: World) -> Ports:
        self.folder = TemporaryDirectory()
        self.ledger = SqliteLedger(f"{self.folder.name}/ledger.db", clock=world.clock)
        return replace(world.ports(), ledger=self.ledger, agenda=self.ledger, outbox=self.ledger)

    def teardown(self) -> None:
        with self.folder:
            try:
                super().teardown()
            finally:
                self.ledger.close()


def test_the_rules_hold_in_a_simulated_world() -> None:
    run_state_machine_as_test(
        RetrainingMachine,
        settings=settings(max_examples=45, stateful_step_count=40, derandomize=True, deadline=None),
    )


def test_the_rules_hold_on_the_embedded_ledger() -> None:
    run_state_machine_as_test(
        OnSqlite, settings=settings(max_examples=10, stateful_step_count=30, derandomize=True, deadline=None)
    )


@pytest.mark.slow
@pytest.mark.minutes
def test_the_rules_hold_in_many_simulated_worlds() -> None:
    print(f"again: AUTORETRAIN_SIMULATION_SEED={SEED}")
    run_state_machine_as_test(
        seed(SEED)(RetrainingMachine),
        settings=settings(
            max_examples=600, stateful_step_count=60, deadline=None, print_blob=True, database=None
        ),
    )
