"""Writing checkpoints: which there are, when they are written, and that a killed run leaves whole files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ranet.support.files import written_whole

BEST, LAST = "best.ckpt", "last.ckpt"


def checkpoint_callbacks(folder: str | Path, validates: bool) -> list[Callback]:
    """Callbacks that write ``last.ckpt`` after every epoch and, with a validation split, ``best.ckpt``.

    The best checkpoint is the one with the highest mean accuracy of all exits on the validation split. Give the trainer
    ``WholeFiles`` beside them.
    """
    callbacks: list[Callback] = []
    if validates:
        callbacks.append(
            MovableCheckpoint(
                folder, Path(BEST).stem, monitor="val/accuracy_mean", mode="max", enable_version_counter=False
            )
        )
    # After the best one, whose state it stores.
    callbacks.append(
        MovableCheckpoint(folder, Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    )
    return callbacks


class MovableCheckpoint(ModelCheckpoint):
    """A ``ModelCheckpoint`` that goes on when the run folder has been moved.

    Lightning forgets the best score then, and the next epoch would replace the best checkpoint however bad it is.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the scores, with the paths of files where they lie now."""
        before, now = str(state_dict["dirpath"]), str(self.dirpath)

        def moved(path: str) -> str:
            return now + path.removeprefix(before) if path.startswith(before) else path

        here = {name: moved(value) if isinstance(value, str) else value for name, value in state_dict.items()}
        here["best_k_models"] = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(here)


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that it is whole or not there.

    Lightning writes to the temporary folder first. That often lies on another disk; then the file is copied to its
    place, and a run that is killed meanwhile leaves half of it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint to a local path."""
        # Through a handle, because PyTorch's own writer does not say why it fails.
        with written_whole(path) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)
