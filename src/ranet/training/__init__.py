"""Training of staged networks with Lightning."""

from ranet.training.averaging import AveragedWeights
from ranet.training.callbacks import OwnSignals, RandomState, StopAtBadLoss
from ranet.training.checkpoints import TrainedNetwork, build_network, find_checkpoint, load_trained
from ranet.training.classifier import MultiExitClassifier
from ranet.training.distillation import distillation_loss
from ranet.training.epoch_metrics import EpochMetrics
from ranet.training.gradient_equilibrium import forward_in_stages
from ranet.training.loss import exit_cross_entropies, multi_exit_loss
from ranet.training.metrics_log import MetricsLog
from ranet.training.mixing import BatchMixing
from ranet.training.progress import EpochProgress
from ranet.training.saving import WholeFiles, checkpoint_callbacks
from ranet.training.schedules import cosine_schedule, step_schedule
from ranet.training.technique import Technique

__all__ = [
    "AveragedWeights",
    "BatchMixing",
    "EpochMetrics",
    "EpochProgress",
    "MetricsLog",
    "MultiExitClassifier",
    "OwnSignals",
    "RandomState",
    "StopAtBadLoss",
    "Technique",
    "TrainedNetwork",
    "WholeFiles",
    "build_network",
    "checkpoint_callbacks",
    "cosine_schedule",
    "distillation_loss",
    "exit_cross_entropies",
    "find_checkpoint",
    "forward_in_stages",
    "load_trained",
    "multi_exit_loss",
    "step_schedule",
]
