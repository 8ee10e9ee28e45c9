"""The real controller under everything that can happen, in any order."""

from hypothesis import settings

from autoretrain.entrypoints.testing.simulation import RetrainingMachine

TestRetraining = RetrainingMachine.TestCase
TestRetraining.settings = settings(max_examples=40, stateful_step_count=40, derandomize=True, deadline=None)
