"""Exit scores from logits, in PyTorch: the prediction of each exit for every image, and how sure it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranet.calibration.scores.checks import check_temperatures, transpose
from ranet.errors import UserError

TOP = 5
MOST_PATIENT = 31
# Keeps a confidence of 1 below the next integer, even in float32 after the longest run.
_BELOW_ONE = 1 - 2**-18


class Answers(NamedTuple):
    """The answers of one exit for N images; `ExitScores` defines the fields."""

    confidence: Tensor
    margin: Tensor
    entropy: Tensor
    prediction: Tensor
    correct_top5: Tensor | None


def score_logits(logits: Tensor, labels: Tensor | None = None, temperature: float = 1.0) -> Answers:
    """Return confidence, margin, entropy, prediction and top-5 correctness of one exit.

    All come from the softmax of the logits divided by the temperature, computed in float32 for logits of any precision.
    The confidence is the largest probability and the prediction its class (Huang et al., "Multi-Scale Dense Networks",
    ICLR 2018, section 5). The margin is the largest probability minus the second. The entropy (Teerapittayanon et al.,
    "BranchyNet", ICPR 2016) is negative, in nats, so that higher is surer for all three.

    Args:
        logits: (N, C) logits.
        labels: (N,) class indices; None if unknown.
        temperature: divisor of the logits.

    Example:
        >>> answers = score_logits(torch.tensor([[0.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0]))
        >>> [round(float(c), 4) for c in answers.confidence], answers.prediction.tolist(), answers.correct_top5.tolist()
        ([0.5, 0.9999], [0, 1], [True, True])
        >>> [round(float(h), 4) for h in answers.entropy], [round(float(m), 4) for m in answers.margin]
        ([-0.6931, -0.0012], [0.0, 0.9998])
    """
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    probabilities, log_probabilities = logits.softmax(dim=-1), logits.log_softmax(dim=-1)
    largest = probabilities.topk(min(2, logits.shape[-1]), dim=-1).values
    margin = largest[:, 0] - largest[:, 1] if largest.shape[-1] > 1 else largest[:, 0]
    # A class with a logit of minus infinity adds 0.
    entropy = torch.where(probabilities > 0, probabilities * log_probabilities, 0.0).sum(dim=-1)
    confidence, prediction = probabilities.max(dim=-1)
    top5 = None
    if labels is not None:
        nearest = logits.topk(min(TOP, logits.shape[-1]), dim=-1).indices
        top5 = (nearest == labels[:, None]).any(dim=-1)
    return Answers(confidence, margin, entropy, prediction, top5)


def score_batch(logits: Tensor, labels: Tensor | None, temperatures: npt.ArrayLike | None) -> dict[str, Tensor]:
    """Return the scores of a batch by name, on its device.

    Args:
        logits: (K, B, C) logits.
        labels: (B,) class indices; None if unknown.
        temperatures: (K,), divisors of the logits of each exit; None is 1.

    Returns:
        Each field of `Answers` (K, B), and the labels (B,) if given.

    Raises:
        UserError: if the shapes are wrong, or there are no images.
    """
    if logits.ndim != 3 or (labels is not None and (labels.ndim != 1 or logits.shape[1] != labels.shape[0])):
        if labels is not None and logits.ndim == 3 and labels.shape == logits.shape[:1]:
            shape = f"shape {tuple(logits.shape)} for {len(labels)} labels"
            raise UserError(f"The array of logits has {shape}; {transpose('logits')}.")
        of_labels = "" if labels is None else f" and {tuple(labels.shape)}"
        raise UserError(
            f"Logits must be (exits, images, classes) and labels (images,), not {tuple(logits.shape)}{of_labels}."
        )
    if 0 in logits.shape:
        raise UserError(f"There is nothing to score: the logits are {tuple(logits.shape)} (exits, images, classes).")
    each = np.ones(len(logits)) if temperatures is None else check_temperatures(temperatures, len(logits))
    # One exit at a time: the softmax of all exits at once would double the memory of the largest array.
    answers = [score_logits(of_exit, labels, t) for of_exit, t in zip(logits, each.tolist(), strict=True)]
    names = [name for name in Answers._fields if getattr(answers[0], name) is not None]
    scored = {name: torch.stack([getattr(answer, name) for answer in answers]) for name in names}
    return scored if labels is None else {**scored, "labels": labels}


def runs_of_agreement(prediction: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many exits in a row, up to and including each, predict the same class.

    Args:
        prediction: (K, N) predicted classes.

    Returns:
        (K, N) lengths of the runs, 1 at the first exit.

    Example:
        >>> runs_of_agreement(np.array([[3], [3], [5], [5], [5]]))[:, 0]
        array([1, 2, 1, 2, 3])
    """
    runs = np.ones(prediction.shape, dtype=np.int64)
    for k in range(1, len(prediction)):
        runs[k] += np.where(prediction[k] == prediction[k - 1], runs[k - 1], 0)
    return runs


def patience_scores(prediction: npt.NDArray[np.int64], confidence: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the number of exits in a row that agree plus a fraction that rises with the confidence.

    At an integer threshold t, an image leaves when t consecutive exits agree (Zhou et al., "BERT Loses Patience",
    NeurIPS 2020, where the patience is t - 1). Integers alone allow only K mean costs; the fraction allows those
    between: at a threshold of t + c, an image leaves if its run is longer than t, or if its run is t and its confidence
    is at least about c.

    Args:
        prediction: (K, N) predicted classes.
        confidence: (K, N) confidences in [0, 1].

    Returns:
        (K, N) scores.

    Raises:
        UserError: if there are more than MOST_PATIENT exits: float32 then cannot hold the fraction.

    Example:
        >>> patience_scores(np.array([[3], [3], [5]]), np.float32([[0.5], [1.0], [0.25]]))[:, 0].round(3).tolist()
        [1.5, 3.0, 1.25]
    """
    if len(prediction) > MOST_PATIENT:
        raise UserError(f"Patience works for at most {MOST_PATIENT} exits, not {len(prediction)}.")
    fraction = confidence.clip(0, 1).astype(np.float64) * _BELOW_ONE
    return (runs_of_agreement(prediction) + fraction).astype(np.float32)
