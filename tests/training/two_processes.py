"""What each of the two processes of test_distributed.py does: python -m tests.training.two_processes FOLDER."""

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from ranet.errors import UserError
from ranet.models import InlineCollaboration
from ranet.training.techniques.teachers import LastExit
from tests.training.examples import small_classifier, small_data, small_network, small_trainer


class Witness(Callback):
    """Keeps the labels of each step and the gradients that the optimizer gets; freezes batch normalisation.

    With its stored statistics the gradient of an image does not depend on the images beside it.
    """

    def __init__(self) -> None:
        self.labels: list[Tensor] = []
        self.gradients: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        self.labels.append(batch[1].clone())
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.eval()

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any) -> None:
        self.gradients.append({name: weight.grad.clone() for name, weight in module.network.named_parameters()})


class BadLossInRank1(Callback):
    """Makes the loss of the second process a NaN in the last step of the epoch, where only that process sees it."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        if trainer.global_rank == 1 and trainer.global_step == 2:
            outputs["loss"] = torch.tensor(float("nan"))


def train(folder: Path, processes: int) -> Witness:
    """Two epochs of two steps, of 32 and 28 images in all processes together, with all three techniques.

    In double precision: in single precision the steps would tell sums that are rounded in another order.
    """
    witness = Witness()
    strategy = "ddp" if processes > 1 else "auto"
    trainer = small_trainer(folder, 2, witness, devices=processes, strategy=strategy, precision="64-true")
    network = InlineCollaboration(small_network())
    classifier = small_classifier(network, equilibrium="all", teacher=LastExit())
    trainer.fit(classifier, datamodule=small_data(batch_size=32 // processes))
    return witness


def meet_a_bad_loss(folder: Path) -> str:
    trainer = small_trainer(folder, 1, BadLossInRank1(), validates=False, devices=2, strategy="ddp")
    try:
        trainer.fit(small_classifier(), datamodule=small_data(validation_size=0))
    except UserError as error:
        return str(error)
    return "no error"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    witness = train(folder / "run", 2)
    rank = torch.distributed.get_rank()
    error = meet_a_bad_loss(folder / "bad")
    torch.save({"labels": witness.labels, "gradients": witness.gradients, "error": error}, folder / f"rank{rank}.pt")
