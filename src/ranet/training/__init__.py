"""Training of staged networks with Lightning."""

from ranet.models.checkpoint_files import find_checkpoint
from ranet.training.checkpoints import TrainedNetwork, build_network, load_trained
from ranet.training.classifier import MultiExitClassifier
from ranet.training.epoch_metrics import EpochMetrics
from ranet.training.loss import exit_cross_entropies, multi_exit_loss
from ranet.training.recipe.averaging import AveragedWeights
from ranet.training.recipe.mixing import BatchMixing
from ranet.training.recipe.schedules import cosine_schedule, step_schedule
from ranet.training.run.callbacks import OwnSignals, RandomState, StopAtBadLoss
from ranet.training.run.metrics_log import MetricsLog
from ranet.training.run.progress import EpochProgress
from ranet.training.run.saving import WholeFiles, checkpoint_callbacks
from ranet.training.techniques.distillation import distillation_loss
from ranet.training.techniques.gradient_equilibrium import forward_in_stages
from ranet.training.techniques.technique import Technique

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
