"""The simulation that an engine must agree with: a policy replayed on the logits of all exits."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranet.calibration import ExitPolicy
from ranet.calibration.scores.in_numpy import patience_scores
from ranet.calibration.scores.in_torch import score_logits
from ranet.inference import Answers
from ranet.models import StagedNetwork
from tests.inference.networks import FLOAT32


def all_logits(network: StagedNetwork, images: npt.NDArray[np.float32]) -> Tensor:
    """(K, N, C), by the plain network in evaluation mode."""
    with torch.no_grad():
        return network.eval()(torch.from_numpy(images))


def replayed(policy: ExitPolicy, logits: Tensor, max_exit: int | None = None) -> tuple[Any, Any, Any]:
    """Exits (N,), labels (N,) and logits (N, C) by replay, image by image."""
    exits_count, images = logits.shape[:2]
    temperatures = policy.temperatures or (1.0,) * exits_count
    answers = [score_logits(of_exit, None, t) for of_exit, t in zip(logits, temperatures, strict=True)]
    compared = compared_scores(policy, answers)
    deepest = exits_count - 1 if max_exit is None else max_exit
    exits = []
    for i in range(images):
        k = 0
        while k < deepest and not compared[k][i] >= np.float32(policy.thresholds[k]):
            k += 1
        exits.append(k)
    labels = [int(answers[k]["prediction"][i]) for i, k in enumerate(exits)]
    return np.array(exits, dtype=int), np.array(labels, dtype=int), logits.numpy()[exits, np.arange(images)]


def check_answers(answers: Answers, policy: ExitPolicy, logits: Tensor) -> None:
    """Answers are those of the replay, probabilities and all."""
    exits, labels, wanted = replayed(policy, logits)
    np.testing.assert_array_equal(answers.exits, exits)
    np.testing.assert_array_equal(answers.labels, labels)
    within = FLOAT32 * abs(logits).max().item()
    np.testing.assert_allclose(answers.logits, wanted, rtol=0, atol=within)
    divided_by = np.array(policy.temperatures or [1.0] * len(logits))[exits]
    probabilities = torch.softmax(torch.from_numpy(wanted / divided_by[:, None]), dim=1).numpy()
    # A probability changes by less than a logit.
    np.testing.assert_allclose(answers.probabilities, probabilities, rtol=0, atol=within / divided_by.min(initial=1))
    np.testing.assert_array_equal(answers.confidences, answers.probabilities.max(axis=1))


def compared_scores(policy: ExitPolicy, answers: Any) -> npt.NDArray[np.float32]:
    """(K, N) what the policy compares."""
    if policy.score == "patience":
        return patience_scores(
            torch.stack([a["prediction"] for a in answers]).numpy(),
            torch.stack([a["confidence"] for a in answers]).numpy(),
        )
    return torch.stack([a[policy.score] for a in answers]).numpy()


def between_scores(
    policy_score: str, logits: Tensor, ranks: list[float], temperatures: tuple[float, ...] | None = None
) -> tuple[float, ...]:
    """A threshold for each exit but the last, in the middle of the widest gap near a rank in [0, 1] of the scores.

    So rounding cannot decide about an image. A rank below 0 gives minus infinity, above 1 infinity.
    """
    each = temperatures or (1.0,) * len(logits)
    answers = [score_logits(of_exit, None, t) for of_exit, t in zip(logits, each, strict=True)]
    compared = compared_scores(ExitPolicy((0.0,) * (len(logits) - 1), score=policy_score), answers)
    thresholds = []
    for of_exit, rank in zip(compared[:-1], ranks, strict=True):
        if rank < 0 or rank > 1 or len(of_exit) < 2:
            thresholds.append(float("-inf") if rank < 0 else float("inf"))
            continue
        ordered = np.sort(of_exit.astype(np.float64))
        gaps = np.diff(ordered)
        at = int(rank * (len(gaps) - 1))
        near = range(max(0, at - 2), min(len(gaps), at + 3))
        best = max(near, key=lambda i: gaps[i])
        thresholds.append(float(ordered[best] + gaps[best] / 2) if gaps[best] > 1e-4 else float("inf"))
    return tuple(thresholds)
