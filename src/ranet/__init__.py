"""ranet: networks that can stop early, and budgets that say when they should."""

from typing import TYPE_CHECKING

from ranet.support.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from ranet.calibration import (
        ExitPolicy,
        ExitScores,
        calibrate,
        calibrate_each,
        calibrate_risk,
        evaluate_policy,
        exit_for_deadline,
        fit_temperatures,
        geometric_policy,
        load_policy,
    )
    from ranet.cost import CostProfile, CostTable, measure_costs
    from ranet.errors import UserError
    from ranet.inference import Answers, EarlyExitEngine, LatencyProfile, export_engine, measure_latency
    from ranet.models import (
        Cascade,
        InlineCollaboration,
        StagedNetwork,
        add_exits,
        create_network,
        list_networks,
        load_public_checkpoint,
        load_weights,
    )
    from ranet.training import MultiExitClassifier, distillation_loss, forward_in_stages, load_trained

__all__ = [
    "create_network",
    "add_exits",
    "list_networks",
    "load_public_checkpoint",
    "load_weights",
    "load_trained",
    "StagedNetwork",
    "InlineCollaboration",
    "Cascade",
    "forward_in_stages",
    "distillation_loss",
    "MultiExitClassifier",
    "measure_costs",
    "CostProfile",
    "CostTable",
    "measure_latency",
    "LatencyProfile",
    "ExitScores",
    "ExitPolicy",
    "geometric_policy",
    "evaluate_policy",
    "calibrate",
    "calibrate_each",
    "calibrate_risk",
    "exit_for_deadline",
    "fit_temperatures",
    "load_policy",
    "EarlyExitEngine",
    "Answers",
    "export_engine",
    "UserError",
]
#: Of this package; setup.cfg reads it here.
__version__ = "0.1.0"
__getattr__, __dir__ = lazy_exports(__name__)
