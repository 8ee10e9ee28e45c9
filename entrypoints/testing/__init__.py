"""The testing kit for integrators: is your adapter what its port promises, and do the rules survive it?

- A **contract suite** a port: subclass it as ``Test…`` over your adapter, override the few methods that build
  it, and pytest runs everything the port's docstrings promise. Where there are two suites, the longer one is
  for adapters that do real work, the shorter one also holds for stand-ins.
- The **simulation**: the real controller in a world in memory, as a Hypothesis state machine in which people,
  outages, crashes and a second controller act in any order. Put your adapter in the place of one port.
- **Strategies** for Hypothesis: the values that ports and domain exchange (module ``strategies``).

Names are loaded when they are first used. Needs the extra ``testing``; ``docs/testing_kit.md`` has examples.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...ports.errors import MissingExtra

try:
    import pytest
except ImportError as error:
    raise MissingExtra("pytest", "testing") from error

if TYPE_CHECKING:
    from . import strategies as strategies
    from .agenda import AgendaContract as AgendaContract
    from .agenda import ShardedAgendaContract as ShardedAgendaContract
    from .anchors import AnchorKeeperContract as AnchorKeeperContract
    from .compute import ComputeContract as ComputeContract
    from .compute import ExecutingComputeContract as ExecutingComputeContract
    from .data import DataSourceContract as DataSourceContract
    from .drift import DriftDetectorContract as DriftDetectorContract
    from .drift import MeasuringDriftContract as MeasuringDriftContract
    from .inspector import InspectorContract as InspectorContract
    from .invariants import check_world as check_world
    from .ledger import LedgerContract as LedgerContract
    from .limits import LimitsContract as LimitsContract
    from .metrics import MetricSourceContract as MetricSourceContract
    from .metrics import WindowedMetricSourceContract as WindowedMetricSourceContract
    from .notifier import NotifierContract as NotifierContract
    from .observations import ObservationsContract as ObservationsContract
    from .outbox import OutboxContract as OutboxContract
    from .predictor import PredictorContract as PredictorContract
    from .registry import ModelRegistryContract as ModelRegistryContract
    from .router import TrafficRouterContract as TrafficRouterContract
    from .scorer import FullScorerContract as FullScorerContract
    from .scorer import ScorerContract as ScorerContract
    from .simulated_world import Training as Training
    from .simulated_world import World as World
    from .simulation import RetrainingMachine as RetrainingMachine
    from .telemetry import TelemetryContract as TelemetryContract
    from .tracker import ExperimentTrackerContract as ExperimentTrackerContract

_HOMES = {
    "AgendaContract": "agenda",
    "ShardedAgendaContract": "agenda",
    "AnchorKeeperContract": "anchors",
    "ComputeContract": "compute",
    "ExecutingComputeContract": "compute",
    "DataSourceContract": "data",
    "DriftDetectorContract": "drift",
    "MeasuringDriftContract": "drift",
    "LedgerContract": "ledger",
    "LimitsContract": "limits",
    "MetricSourceContract": "metrics",
    "WindowedMetricSourceContract": "metrics",
    "NotifierContract": "notifier",
    "ObservationsContract": "observations",
    "OutboxContract": "outbox",
    "PredictorContract": "predictor",
    "ModelRegistryContract": "registry",
    "TrafficRouterContract": "router",
    "InspectorContract": "inspector",
    "ScorerContract": "scorer",
    "FullScorerContract": "scorer",
    "TelemetryContract": "telemetry",
    "ExperimentTrackerContract": "tracker",
    "RetrainingMachine": "simulation",
    "World": "simulated_world",
    "Training": "simulated_world",
    "check_world": "invariants",
}

# Failures inside a suite then show both sides of the comparison, as they do in a test file.
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in sorted({*_HOMES.values(), "store"})))

__all__ = [*_HOMES, "strategies"]


def __getattr__(name: str) -> Any:
    """Load a name from its module on first use (PEP 562)."""
    if name == "strategies":
        return import_module(f"{__name__}.strategies")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
