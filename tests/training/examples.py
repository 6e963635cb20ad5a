"""A network and digits small enough to train in a second, and the trainer that the command builds around them."""

import csv
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, LearningRateMonitor
from torch.optim import SGD

from ranet.data import ImageData
from ranet.models import StagedNetwork, create_network
from ranet.training import (
    MetricsLog,
    MultiExitClassifier,
    RandomState,
    StopAtBadLoss,
    WholeFiles,
    checkpoint_callbacks,
    cosine_schedule,
)

OPTIONS: dict[str, Any] = {
    "num_classes": 10,
    "image_size": 32,
    "blocks": 2,
    "base": 1,
    "step": 1,
    "channels": 4,
    "growth": 2,
    "growth_factors": [1, 2],
    "bottleneck_factors": [1, 2],
}
RECIPE = {"network": {"name": "msdnet", "options": OPTIONS}, "data": {"name": "digits"}}


def small_network(seed: int = 0) -> StagedNetwork:
    torch.manual_seed(seed)
    return create_network("msdnet", **OPTIONS)


def small_data(batch_size: int = 16, validation_size: float = 0.1) -> ImageData:
    """Sixty training images: four steps per epoch, the last of twelve images."""
    return ImageData(
        "digits",
        batch_size=batch_size,
        eval_batch_size=50,
        train_limit=60,
        train_copies=1,
        eval_copies=1,
        validation_size=validation_size,
    )


def small_classifier(network: StagedNetwork | None = None, lr: float = 0.1, **options: Any) -> MultiExitClassifier:
    def optimizer(parameters: Any) -> SGD:
        return SGD(parameters, lr, momentum=0.9, weight_decay=1e-4)

    return MultiExitClassifier(network or small_network(), optimizer, cosine_schedule, recipe=RECIPE, **options)


def small_trainer(
    folder: Path,
    epochs: int,
    *callbacks: Callback,
    validates: bool = True,
    resume_step: int | None = None,
    checkpoint_io: WholeFiles | None = None,
    **options: Any,
) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=str(folder),
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[
            *callbacks,
            StopAtBadLoss(),
            RandomState(),
            LearningRateMonitor("epoch"),
            *checkpoint_callbacks(folder / "checkpoints", validates),
        ],
        plugins=[checkpoint_io or WholeFiles()],
        logger=[MetricsLog(folder, resume_step)],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
