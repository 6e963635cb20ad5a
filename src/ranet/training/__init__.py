"""Training of staged networks with Lightning."""

from ranet.training.callbacks import RandomState, StopAtBadLoss, checkpoint_callbacks
from ranet.training.checkpoints import TrainedNetwork, find_checkpoint, load_trained
from ranet.training.classifier import MultiExitClassifier
from ranet.training.loss import exit_cross_entropies, multi_exit_loss
from ranet.training.metrics_log import MetricsLog
from ranet.training.schedules import cosine_schedule, step_schedule

__all__ = [
    "MetricsLog",
    "MultiExitClassifier",
    "RandomState",
    "StopAtBadLoss",
    "TrainedNetwork",
    "checkpoint_callbacks",
    "cosine_schedule",
    "exit_cross_entropies",
    "find_checkpoint",
    "load_trained",
    "multi_exit_loss",
    "step_schedule",
]
