"""Writing checkpoints: the best and the last one, so that a killed run leaves only whole files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ranet.models.checkpoint_files import BEST, LAST
from ranet.support.files import written_whole


def checkpoint_callbacks(folder: str | Path, validates: bool) -> list[Callback]:
    """Return callbacks that write ``last.ckpt`` after every epoch and, with a validation split, ``best.ckpt``.

    The best checkpoint is the one with the highest mean accuracy of all exits on the validation split. Also give
    ``WholeFiles`` to the trainer.
    """
    callbacks: list[Callback] = []
    if validates:
        callbacks.append(
            MovableCheckpoint(
                folder, Path(BEST).stem, monitor="val/accuracy_mean", mode="max", enable_version_counter=False
            )
        )
    # After the callback of the best checkpoint, whose state it stores.
    callbacks.append(
        MovableCheckpoint(folder, Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    )
    return callbacks


class MovableCheckpoint(ModelCheckpoint):
    """A ``ModelCheckpoint`` that keeps its scores after the run folder was moved.

    Otherwise Lightning forgets the best score, and the next epoch replaces the best checkpoint even if it is worse.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the scores, with the current paths of the files."""
        before, now = str(state_dict["dirpath"]), str(self.dirpath)

        def moved(path: str) -> str:
            return now + path.removeprefix(before) if path.startswith(before) else path

        here = {name: moved(value) if isinstance(value, str) else value for name, value in state_dict.items()}
        here["best_k_models"] = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(here)


class WholeFiles(TorchCheckpointIO):
    """A checkpoint writer that writes to a file next to the target and renames it, so that the target is whole.

    Lightning writes to the temporary folder first, which is often on another disk. Then the file is copied, and a run
    that is killed meanwhile leaves a part of it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint to a local path."""
        # Through a handle, because PyTorch's own writer does not report why it fails.
        with written_whole(path) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)
