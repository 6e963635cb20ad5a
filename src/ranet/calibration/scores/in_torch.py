"""Exit scores from logits, in PyTorch: the prediction of each exit for every image, and how sure it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranet.calibration.scores.checks import check_logits, check_temperatures
from ranet.errors import UserError

TOP = 5


def score_logits(logits: Tensor, labels: Tensor | None = None, temperature: float = 1.0) -> dict[str, Tensor]:
    """Return confidence, margin, entropy, prediction and, with labels, top-5 correctness of one exit, (N,) each.

    All come from the softmax of the logits (N, C) divided by the temperature, computed in float32. The confidence is
    the largest probability and the prediction its class (Huang et al., "Multi-Scale Dense Networks", ICLR 2018, section
    5). The margin is the largest probability minus the second. The entropy (Teerapittayanon et al., "BranchyNet", ICPR
    2016) is negative, in nats, so that higher is surer for all three.

    Example:
        >>> scores = score_logits(torch.tensor([[0.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0]))
        >>> scores["prediction"].tolist(), scores["correct_top5"].tolist()
        ([0, 1], [True, True])
        >>> [round(float(m), 4) for m in scores["margin"]], [round(float(h), 4) for h in scores["entropy"]]
        ([0.0, 0.9998], [-0.6931, -0.0012])
    """
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    probabilities, log_probabilities = logits.softmax(dim=-1), logits.log_softmax(dim=-1)
    largest = probabilities.topk(min(2, logits.shape[-1]), dim=-1).values
    confidence, prediction = probabilities.max(dim=-1)
    scores = {
        "confidence": confidence,
        "margin": largest[:, 0] - largest[:, 1] if largest.shape[-1] > 1 else largest[:, 0],
        # A class with a logit of minus infinity adds 0.
        "entropy": torch.where(probabilities > 0, probabilities * log_probabilities, 0.0).sum(dim=-1),
        "prediction": prediction,
    }
    if labels is not None:
        nearest = logits.topk(min(TOP, logits.shape[-1]), dim=-1).indices
        scores["correct_top5"] = (nearest == labels[:, None]).any(dim=-1)
    return scores


def score_batch(logits: Tensor, labels: Tensor | None, temperatures: npt.ArrayLike | None) -> dict[str, Tensor]:
    """Return the scores (K, B) of a batch by name, on its device, and the labels (B,) if given.

    Logits are (K, B, C), and temperatures (K,); None is 1.

    Raises:
        UserError: if the shapes are wrong, or there are no images.
    """
    check_logits(logits, labels)
    if 0 in logits.shape:
        raise UserError(f"There is nothing to score: the logits are {tuple(logits.shape)} (exits, images, classes).")
    each = np.ones(len(logits)) if temperatures is None else check_temperatures(temperatures, len(logits))
    # One exit at a time: the softmax of all exits at once would double the memory of the largest array.
    exits = [score_logits(of_exit, labels, t) for of_exit, t in zip(logits, each.tolist(), strict=True)]
    scored = {name: torch.stack([scores[name] for scores in exits]) for name in exits[0]}
    return scored if labels is None else {**scored, "labels": labels}
