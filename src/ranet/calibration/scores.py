"""Exit scores: all that exit policies and their evaluation need to know of a network's answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ranet.errors import UserError
from ranet.files import written_whole

TOP = 5


def score_logits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Confidence, prediction and top-5 correctness of one exit.

    The confidence is the largest softmax probability, computed in float32 whatever the precision of the logits, and the
    prediction is the class that has it (Huang et al., "Multi-Scale Dense Networks", ICLR 2018, section 5).

    Args:
        logits: (N, C).
        labels: (N,) class indices.

    Returns:
        confidence (N,) float32, prediction (N,) int64, and (N,) whether the label is among the min(5, C) largest.

    Example:
        >>> confidence, prediction, top5 = score_logits(torch.tensor([[0.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0]))
        >>> [round(float(c), 4) for c in confidence], prediction[1].item(), top5.tolist()
        ([0.5, 0.9999], 1, [True, True])
    """
    logits = logits.float()
    confidence, prediction = logits.softmax(dim=-1).max(dim=-1)
    nearest = logits.topk(min(TOP, logits.shape[-1]), dim=-1).indices
    return confidence, prediction, (nearest == labels[:, None]).any(dim=-1)


@dataclass(frozen=True, eq=False)
class ExitScores:
    """What every exit says about every image, as (K exits, N images) arrays.

    Logits are not kept: 50,000 ImageNet images at 8 exits take 7 MB here instead of 1.6 GB.

    Attributes:
        confidence: (K, N) float32, the largest softmax probability.
        prediction: (K, N) int64, the class that has it.
        correct_top5: (K, N) bool, whether the label is among the five most probable classes.
        labels: (N,) int64.

    Example:
        >>> scores = ExitScores.from_logits(torch.tensor([[[4.0, 0.0]], [[0.0, 4.0]]]), torch.tensor([1]))
        >>> scores.num_exits, scores.num_images, scores.correct.tolist()
        (2, 1, [[False], [True]])
    """

    confidence: npt.NDArray[np.float32]
    prediction: npt.NDArray[np.int64]
    correct_top5: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if 0 in self.confidence.shape:
            raise UserError("There are no images to score; check the split or the selection.")

    @property
    def num_exits(self) -> int:
        """K, the number of exits."""
        return self.confidence.shape[0]

    @property
    def num_images(self) -> int:
        """N, the number of images."""
        return self.confidence.shape[1]

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(K, N), whether the prediction is the label."""
        return self.prediction == self.labels

    @classmethod
    def from_logits(cls, logits: Tensor | npt.ArrayLike, labels: Tensor | npt.ArrayLike) -> ExitScores:
        """Score the logits of all exits.

        Args:
            logits: (K, N, C), of any floating precision.
            labels: (N,) class indices.

        Raises:
            UserError: for other shapes, no images, labels outside 0..C-1, or logits that are not numbers.
        """
        logits, labels = torch.as_tensor(logits).detach(), torch.as_tensor(labels)
        _check_shapes(logits, labels)
        labels = labels.to(logits.device, torch.int64)
        # One exit at a time: the softmax of all exits at once would double the memory of the largest array there is.
        return cls._from_exits([[score_logits(of_exit, labels) for of_exit in logits]], [labels], logits.shape[-1])

    @classmethod
    def collect(
        cls,
        network: nn.Module,
        batches: Iterable[tuple[Tensor, Tensor]],
        device: torch.device | str | None = None,
    ) -> ExitScores:
        """Score a data set in one pass that holds O(K N) memory: the logits of a batch are dropped with the batch.

        Args:
            network: gives (K, B, C) logits for a batch of images. It is run in evaluation mode; every module's own
                mode is as before afterwards.
            batches: (images, labels) pairs, for instance a DataLoader that does not shuffle.
            device: where to run; by default where the network's parameters are.

        Raises:
            UserError: if there is no batch, and as for `from_logits`.
        """
        if device is None:
            device = next((p.device for p in network.parameters()), torch.device("cpu"))
        modes = [(module, module.training) for module in network.modules()]
        scored, seen, num_classes = [], [], 0
        try:
            network.eval()
            with torch.no_grad():
                for images, labels in batches:
                    logits = network(images.to(device, non_blocking=True))
                    labels = labels.to(device, torch.int64, non_blocking=True)
                    _check_shapes(logits, labels)
                    scored.append([score_logits(of_exit, labels) for of_exit in logits])
                    seen.append(labels)
                    num_classes = logits.shape[-1]
        finally:
            for module, training in modes:
                module.training = training
        if not scored:
            raise UserError("There are no images to score: the loader gave no batch; check the split and drop_last.")
        # Only here are scores moved to the host, so that a GPU does not wait after every batch.
        return cls._from_exits(scored, seen, num_classes)

    @classmethod
    def _from_exits(
        cls, batches: Sequence[Sequence[tuple[Tensor, Tensor, Tensor]]], labels: Sequence[Tensor], num_classes: int
    ) -> ExitScores:
        """Join [batch][exit](confidence, prediction, top5) along the images, stack the exits, and check the values."""
        confidence, prediction, top5 = (
            torch.cat([torch.stack([of_exit[i] for of_exit in batch]) for batch in batches], dim=1).cpu().numpy()
            for i in range(3)
        )
        scores = cls(confidence, prediction, top5, torch.cat(list(labels)).cpu().numpy())
        if np.isnan(confidence).any():
            bad = int(np.isnan(confidence).any(axis=0).sum())
            raise UserError(
                f"The network gives logits that are no numbers for {bad} of {scores.num_images} images: it has "
                "diverged or its weights are damaged; use another checkpoint."
            )
        low, high = int(scores.labels.min()), int(scores.labels.max())
        if low < 0 or high >= num_classes:
            raise UserError(
                f"Labels must lie in 0..{num_classes - 1} for logits of {num_classes} classes, these lie in "
                f"{low}..{high}: score the network on the data set that it was built for."
            )
        return scores

    @classmethod
    def concatenate(cls, parts: Sequence[ExitScores]) -> ExitScores:
        """Join the images of several scores of the same network, in order."""
        if len({part.num_exits for part in parts}) != 1:
            raise UserError("Only scores of the same number of exits can be joined, and at least one is needed.")
        return cls(
            confidence=np.concatenate([part.confidence for part in parts], axis=1),
            prediction=np.concatenate([part.prediction for part in parts], axis=1),
            correct_top5=np.concatenate([part.correct_top5 for part in parts], axis=1),
            labels=np.concatenate([part.labels for part in parts]),
        )

    def subset(self, images: npt.ArrayLike | slice) -> ExitScores:
        """The scores of some images, chosen by indices, a mask or a slice."""
        chosen: Any = images if isinstance(images, slice) else np.asarray(images)
        return ExitScores(
            self.confidence[:, chosen], self.prediction[:, chosen], self.correct_top5[:, chosen], self.labels[chosen]
        )

    def save(self, path: str | Path) -> None:
        """Write the scores to one compressed .npz file, whole or not at all."""
        # Through a handle, because np.savez appends ".npz" to a name that lacks it.
        with written_whole(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> ExitScores:
        """Read what `save` wrote.

        Raises:
            UserError: if the file is missing or is not one of exit scores.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                scores = cls(**{field.name: file[field.name] for field in fields(cls)})
        except FileNotFoundError as error:
            raise UserError(f"There is no score file {str(path)!r}.") from error
        except (KeyError, TypeError, ValueError, EOFError, BadZipFile) as error:
            raise UserError(f"{str(path)!r} is no file of exit scores; write one with ExitScores.save.") from error
        return scores


def _check_shapes(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 3 or labels.ndim != 1 or logits.shape[1] != labels.shape[0]:
        raise UserError(
            f"Logits must be (exits, images, classes) and labels (images,), these are {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}."
        )
    if 0 in logits.shape:
        raise UserError(f"There is nothing to score: the logits are {tuple(logits.shape)} (exits, images, classes).")
