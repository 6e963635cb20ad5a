"""Training of staged networks with Lightning."""

from ranet.training.callbacks import RandomState, StopAtBadLoss
from ranet.training.checkpoints import TrainedNetwork, find_checkpoint, load_trained
from ranet.training.classifier import MultiExitClassifier
from ranet.training.epoch_metrics import EpochMetrics
from ranet.training.loss import exit_cross_entropies, multi_exit_loss
from ranet.training.metrics_log import MetricsLog
from ranet.training.saving import WholeFiles, checkpoint_callbacks
from ranet.training.schedules import cosine_schedule, step_schedule

__all__ = [
    "EpochMetrics",
    "MetricsLog",
    "MultiExitClassifier",
    "RandomState",
    "StopAtBadLoss",
    "TrainedNetwork",
    "WholeFiles",
    "checkpoint_callbacks",
    "cosine_schedule",
    "exit_cross_entropies",
    "find_checkpoint",
    "load_trained",
    "multi_exit_loss",
    "step_schedule",
]
