"""Exit scores: everything about a network's answers that exit policies and their evaluation need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ranet.calibration.scores.checks import SCORES, check_scores, check_temperatures, same_temperatures
from ranet.calibration.scores.files import read_score_arrays
from ranet.calibration.scores.in_numpy import patience_scores
from ranet.calibration.scores.in_torch import score_batch
from ranet.errors import UserError
from ranet.support.files import written_whole

Array = npt.NDArray[Any]

T = TypeVar("T", bound=np.generic)


class Stored(Generic[T]):
    """An attribute for the array of its name; where there is none, an error says that these scores have no ``what``."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, scores: ExitScores, owner: type) -> npt.NDArray[T]:
        if not scores.has(self.name):
            raise UserError(f"These scores have no {self.what}.")
        return scores._arrays[self.name]


class ExitScores:
    """The scores of K exits on N images, as (K, N) arrays.

    Logits are not kept by default: 50,000 ImageNet images at 8 exits take 12 MB instead of 1.6 GB. Scores from other
    programs may have only some of the arrays; an error names a missing array when it is needed.

    Args:
        confidence: (K, N), the largest softmax probability.
        prediction: (K, N), the class with the largest probability.
        correct_top5: (K, N), whether the label is among the five most probable classes.
        labels: (N,), class indices.
        correct: (K, N), whether the prediction is the label; computed if prediction and labels are given.
        margin: (K, N), the largest softmax probability minus the second.
        entropy: (K, N), the *negative* entropy of the softmax in nats, so that higher is surer.
        logits: (K, N, C), if they are to be kept.
        executed: (K, N, P), whether an image has executed each of P optional parts of the network when it reaches an
            exit (`ranet.StagedNetwork.optional_parts`); only of networks that adapt inside.
        temperatures: (K,), divisors of the logits of each exit before the softmax; None is 1.

    Raises:
        UserError: if there are no images, shapes do not match, or a score is not finite.

    Example:
        >>> scores = ExitScores.from_logits(torch.tensor([[[4.0, 0.0]], [[0.0, 4.0]]]), torch.tensor([1]))
        >>> scores.num_exits, scores.num_images, scores.correct.tolist()
        (2, 1, [[False], [True]])
    """

    confidence = Stored[np.float32]("confidences")
    margin = Stored[np.float32]("margins (the largest softmax probability minus the second)")
    entropy = Stored[np.float32]("entropies of the softmax")
    prediction = Stored[np.int64]("predicted classes")
    correct_top5 = Stored[np.bool_]("top-5 correctness")
    correct = Stored[np.bool_]("top-1 correctness: they are of images without labels")
    labels = Stored[np.int64]("labels: they are of images without them")
    logits = Stored[Any]("logits: they were not kept")

    def __init__(
        self,
        confidence: npt.ArrayLike,
        prediction: npt.ArrayLike | None = None,
        correct_top5: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        *,
        correct: npt.ArrayLike | None = None,
        margin: npt.ArrayLike | None = None,
        entropy: npt.ArrayLike | None = None,
        logits: npt.ArrayLike | None = None,
        executed: npt.ArrayLike | None = None,
        temperatures: npt.ArrayLike | None = None,
    ) -> None:
        given = {
            "confidence": (confidence, np.float32),
            "margin": (margin, np.float32),
            "entropy": (entropy, np.float32),
            "prediction": (prediction, np.int64),
            "correct_top5": (correct_top5, np.bool_),
            "correct": (correct, np.bool_),
            "labels": (labels, np.int64),
            "logits": (logits, None),
            "executed": (executed, np.bool_),
        }
        self._arrays: dict[str, Array] = {
            name: np.asarray(value, dtype=dtype) for name, (value, dtype) in given.items() if value is not None
        }
        check_scores(self._arrays)
        if self.has("prediction") and self.has("labels"):
            self._arrays["correct"] = self.prediction == self.labels
        self.temperatures = None if temperatures is None else check_temperatures(temperatures, self.num_exits)

    def __repr__(self) -> str:
        return f"ExitScores({self.num_exits} exits, {self.num_images} images: {', '.join(self._arrays)})"

    def has(self, name: str) -> bool:
        """Return whether the array of this name, such as "labels", is present."""
        return name in self._arrays

    @property
    def num_exits(self) -> int:
        """K, the number of exits."""
        return self.confidence.shape[0]

    @property
    def num_images(self) -> int:
        """N, the number of images."""
        return self.confidence.shape[1]

    @property
    def executed(self) -> npt.NDArray[np.bool_] | None:
        """(K, N, P), whether an image has executed each optional part when it reaches an exit; None if none adapts."""
        return self._arrays.get("executed")

    @property
    def patience(self) -> npt.NDArray[np.float32]:
        """(K, N), how many exits in a row agree, plus a fraction for the confidence; see `patience_scores`."""
        return patience_scores(self.prediction, self.confidence)

    def correct_at(self, exits: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_] | None:
        """Return (N,) whether the answer of the exit at which each image leaves is right; None without labels."""
        return self.correct[exits, np.arange(self.num_images)] if self.has("correct") else None

    def score(self, name: str) -> npt.NDArray[np.float32]:
        """Return (K, N), the score of this name; higher is surer. Unknown and missing ones raise a UserError."""
        if name not in SCORES:
            raise UserError(f"An exit policy compares one of {', '.join(SCORES)}, not {name!r}.")
        scores: npt.NDArray[np.float32] = getattr(self, name)
        return scores

    @classmethod
    def from_logits(
        cls,
        logits: Tensor | npt.ArrayLike,
        labels: Tensor | npt.ArrayLike | None = None,
        *,
        temperatures: npt.ArrayLike | None = None,
        keep_logits: bool = False,
    ) -> ExitScores:
        """Score the logits of all exits.

        Args:
            logits: (K, N, C), of any floating precision.
            labels: (N,) class indices; None if unknown.
            temperatures: (K,), divisors of the logits of each exit; None is 1.
            keep_logits: whether to keep the logits in the scores.

        Raises:
            UserError: if shapes are wrong, there are no images, labels are outside 0..C-1, or logits are not finite.
        """
        logits = torch.as_tensor(logits).detach()
        labels = None if labels is None else torch.as_tensor(labels).to(logits.device, torch.int64)
        scored = score_batch(logits, labels, temperatures)
        return cls._join([{**scored, "logits": logits} if keep_logits else scored], logits.shape[-1], temperatures)

    @classmethod
    def collect(
        cls,
        network: nn.Module,
        batches: Iterable[tuple[Tensor, Tensor]],
        device: torch.device | str | None = None,
        *,
        temperatures: npt.ArrayLike | None = None,
        keep_logits: bool = False,
        labelled: bool = True,
    ) -> ExitScores:
        """Score a data set in one pass with O(K N) memory: the logits of each batch are dropped after it.

        Args:
            network: module that returns (K, B, C) logits for a batch of images. It runs in evaluation mode; the mode of
                every module is restored afterwards.
            batches: (images, labels) pairs, for instance a DataLoader that does not shuffle.
            device: device to run on; by default that of the network's parameters.
            temperatures: as for `from_logits`.
            keep_logits: as for `from_logits`; takes O(K N C) memory.
            labelled: False if the labels in the batches have no meaning.

        Raises:
            UserError: if there is no batch, and as for `from_logits`.
        """
        if device is None:
            device = next((p.device for p in network.parameters()), torch.device("cpu"))
        modes = [(module, module.training) for module in network.modules()]
        scored, num_classes = [], 0
        try:
            network.eval()
            with torch.no_grad():
                for images, labels in batches:
                    logits, executed = _run(network, images.to(device, non_blocking=True))
                    known = labels.to(device, torch.int64, non_blocking=True) if labelled else None
                    scored.append(score_batch(logits, known, temperatures))
                    if executed is not None:
                        scored[-1]["executed"] = executed
                    num_classes = logits.shape[-1]
                    if keep_logits:
                        scored[-1]["logits"] = logits.cpu()
        finally:
            for module, training in modes:
                module.training = training
        if not scored:
            raise UserError("There are no images to score: the loader gave no batch; check the split and drop_last.")
        return cls._join(scored, num_classes, temperatures)

    @classmethod
    def _join(
        cls, scored: Sequence[Mapping[str, Tensor]], num_classes: int, temperatures: npt.ArrayLike | None
    ) -> ExitScores:
        """Join scored batches along the images, and check the labels."""
        # Only here are scores moved to the host, so that a GPU does not wait after every batch.
        joined: dict[str, Any] = {
            name: torch.cat([batch[name] for batch in scored], dim=0 if name == "labels" else 1).cpu().numpy()
            for name in scored[0]
        }
        if "labels" in joined:
            low, high = int(joined["labels"].min()), int(joined["labels"].max())
            if low < 0 or high >= num_classes:
                raise UserError(
                    f"Labels must lie in 0..{num_classes - 1} for logits of {num_classes} classes, not "
                    f"{low}..{high}: score the network on the data set that it was built for."
                )
        return cls(**joined, temperatures=temperatures)

    @classmethod
    def concatenate(cls, parts: Sequence[ExitScores]) -> ExitScores:
        """Join the images of several scores of the same network, in order; keep only the arrays that all parts have.

        Raises:
            UserError: if there are no parts, or they differ in the number of exits or the temperatures.
        """
        if len({part.num_exits for part in parts}) != 1:
            raise UserError("Only scores with the same number of exits can be joined; give at least one.")
        first = parts[0]
        if any(not same_temperatures(part.temperatures, first.temperatures) for part in parts):
            raise UserError("Only scores with the same temperatures can be joined.")
        shared: Any = {
            name: np.concatenate([part._arrays[name] for part in parts], axis=int(array.ndim > 1))
            for name, array in first._arrays.items()
            if all(part.has(name) for part in parts)
        }
        return cls(**shared, temperatures=first.temperatures)

    def subset(self, images: npt.ArrayLike | slice) -> ExitScores:
        """Return the scores of some images, chosen by indices, a mask or a slice."""
        chosen: Any = images if isinstance(images, slice) else np.asarray(images)
        part: Any = {
            name: array[chosen] if array.ndim == 1 else array[:, chosen] for name, array in self._arrays.items()
        }
        return ExitScores(**part, temperatures=self.temperatures)

    def save(self, path: str | Path) -> None:
        """Write the scores to one compressed .npz file, whole or not at all."""
        arrays: Any = dict(self._arrays)
        if self.temperatures is not None:
            arrays["temperatures"] = self.temperatures
        # Through a handle, because np.savez appends ".npz" to a name that lacks it.
        with written_whole(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path, *, keep_logits: bool = False) -> ExitScores:
        """Load a score file from `save` or from another program (`read_score_arrays`), whose logits may be kept.

        Raises:
            UserError: if the file is missing, is not a file of exit scores, or its arrays do not match.
        """
        arrays: dict[str, Any] = read_score_arrays(path)
        try:
            if "confidence" in arrays:
                return cls(**arrays)
            unused = sorted(set(arrays) - {"logits", "labels", "temperatures"})
            if unused:
                raise UserError(f"with logits, {unused[0]} is not read; give only labels, or confidence instead.")
            labels, temperatures = arrays.get("labels"), arrays.get("temperatures")
            return cls.from_logits(arrays["logits"], labels, temperatures=temperatures, keep_logits=keep_logits)
        except UserError as error:
            raise UserError(f"{str(path)!r}: {error}") from error


def _run(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the logits (K, B, C), and where the network adapts inside which parts were executed, (K, B, P)."""
    if not getattr(network, "optional_parts", ()):
        return network(images), None
    logits, records = [], []
    for _, state, answer in network.walk(images):  # type: ignore[operator]  # a staged network
        logits.append(answer)
        records.append(state[0] > 0.5)
    return torch.stack(logits), torch.stack(records)
