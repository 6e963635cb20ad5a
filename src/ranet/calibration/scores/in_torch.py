"""From logits to what exit policies compare: the answer of one exit about every image, and how sure it is of it."""

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
# Keeps a confidence of 1 below the next whole number, also in float32 beside the longest run.
_BELOW_ONE = 1 - 2**-18


class Answers(NamedTuple):
    """What one exit says about N images; see `ExitScores` for the meanings."""

    confidence: Tensor
    margin: Tensor
    entropy: Tensor
    prediction: Tensor
    correct_top5: Tensor | None


def score_logits(logits: Tensor, labels: Tensor | None = None, temperature: float = 1.0) -> Answers:
    """Confidence, margin, entropy, prediction and top-5 correctness of one exit.

    All are of the softmax of the logits divided by the temperature, computed in float32 whatever the precision of the
    logits. The confidence is the largest probability and the prediction the class that has it (Huang et al.,
    "Multi-Scale Dense Networks", ICLR 2018, section 5); the margin is the largest minus the second; the entropy
    (Teerapittayanon et al., "BranchyNet", ICPR 2016) is given with a negative sign, in nats, so that of all of them
    more is surer.

    Args:
        logits: (N, C).
        labels: (N,) class indices; None where they are not known.
        temperature: 1 leaves the softmax as it is.

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
    # A class that is excluded by a logit of minus infinity adds nothing.
    entropy = torch.where(probabilities > 0, probabilities * log_probabilities, 0.0).sum(dim=-1)
    confidence, prediction = probabilities.max(dim=-1)
    top5 = None
    if labels is not None:
        nearest = logits.topk(min(TOP, logits.shape[-1]), dim=-1).indices
        top5 = (nearest == labels[:, None]).any(dim=-1)
    return Answers(confidence, margin, entropy, prediction, top5)


def score_batch(logits: Tensor, labels: Tensor | None, temperatures: npt.ArrayLike | None) -> dict[str, Tensor]:
    """The scores of a batch by name, on its device.

    Args:
        logits: (K, B, C).
        labels: (B,); None where they are not known.
        temperatures: (K,), what the logits of each exit are divided by; None is 1.

    Returns:
        Each of `Answers` (K, B), and the labels (B,).

    Raises:
        UserError: for other shapes, or no images.
    """
    if logits.ndim != 3 or (labels is not None and (labels.ndim != 1 or logits.shape[1] != labels.shape[0])):
        if labels is not None and logits.ndim == 3 and labels.shape == logits.shape[:1]:
            shape = f"shape {tuple(logits.shape)} beside {len(labels)} labels"
            raise UserError(f"The array of logits has {shape}; {transpose('logits')}.")
        of_labels = "" if labels is None else f" and {tuple(labels.shape)}"
        raise UserError(
            f"Logits must be (exits, images, classes) and labels (images,), these are {tuple(logits.shape)}{of_labels}."
        )
    if 0 in logits.shape:
        raise UserError(f"There is nothing to score: the logits are {tuple(logits.shape)} (exits, images, classes).")
    each = np.ones(len(logits)) if temperatures is None else check_temperatures(temperatures, len(logits))
    # One exit at a time: the softmax of all exits at once would double the memory of the largest array there is.
    answers = [score_logits(of_exit, labels, t) for of_exit, t in zip(logits, each.tolist(), strict=True)]
    names = [name for name in Answers._fields if getattr(answers[0], name) is not None]
    scored = {name: torch.stack([getattr(answer, name) for answer in answers]) for name in names}
    return scored if labels is None else {**scored, "labels": labels}


def runs_of_agreement(prediction: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many exits in a row, up to and with each, predict the same class.

    Args:
        prediction: (K, N).

    Returns:
        (K, N), 1 at the first exit.

    Example:
        >>> runs_of_agreement(np.array([[3], [3], [5], [5], [5]]))[:, 0]
        array([1, 2, 1, 2, 3])
    """
    runs = np.ones(prediction.shape, dtype=np.int64)
    for k in range(1, len(prediction)):
        runs[k] += np.where(prediction[k] == prediction[k - 1], runs[k - 1], 0)
    return runs


def patience_scores(prediction: npt.NDArray[np.int64], confidence: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The run of agreeing exits plus a fraction that rises with the confidence.

    To leave where this is at least t, t whole, is to leave when t consecutive exits agree (Zhou et al., "BERT Loses
    Patience", NeurIPS 2020, whose patience is t - 1). Whole numbers give K mean costs and nothing between; the fraction
    fills the gaps: at a threshold of t + c those leave whose run is longer than t, and those of a run of t whose
    confidence is at least about c.

    Args:
        prediction: (K, N).
        confidence: (K, N), in [0, 1].

    Returns:
        (K, N).

    Raises:
        UserError: for more than MOST_PATIENT exits, beside which float32 has no room for the fraction.

    Example:
        >>> patience_scores(np.array([[3], [3], [5]]), np.float32([[0.5], [1.0], [0.25]]))[:, 0].round(3).tolist()
        [1.5, 3.0, 1.25]
    """
    if len(prediction) > MOST_PATIENT:
        raise UserError(f"Patience is for at most {MOST_PATIENT} exits, these are {len(prediction)}.")
    fraction = confidence.clip(0, 1).astype(np.float64) * _BELOW_ONE
    return (runs_of_agreement(prediction) + fraction).astype(np.float32)
