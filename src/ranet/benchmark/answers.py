"""The quality of the answers in a benchmark: compared with the truth, and with the network as trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ranet.benchmark.results import Answered, worth
from ranet.benchmark.turns import Floats
from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.inference.engine.engine import EarlyExitEngine
from ranet.models.staged import StagedNetwork

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Task:
    """A network as trained, on the device where PyTorch runs it, its policies, and images (N, C, H, W) to answer.

    The labels (N,) are None if they are not known.
    """

    network: StagedNetwork
    policies: Sequence[ExitPolicy]
    images: Images
    labels: Labels | None


class Reference(NamedTuple):
    """The answers of the network as trained, in float32.

    Attributes:
        policies: (N,) by each policy.
        last: (N,) of the last exit.
        exit_accuracies: (K,) top-1 of each exit; NaN without labels.
    """

    policies: Sequence[Labels]
    last: Labels
    exit_accuracies: Floats


def reference_answers(task: Task, batch_size: int = 100) -> Reference:
    """Replay the policies on the logits of all exits of the plain network."""
    labels = np.zeros(len(task.images), dtype=np.int64) if task.labels is None else task.labels
    scored: dict[tuple[float, ...] | None, ExitScores] = {}
    for temperatures in dict.fromkeys([None, *(policy.temperatures for policy in task.policies)]):
        batches = [
            (torch.from_numpy(task.images[at : at + batch_size]), torch.from_numpy(labels[at : at + batch_size]))
            for at in range(0, len(labels), batch_size)
        ]
        scored[temperatures] = ExitScores.collect(
            task.network, batches, temperatures=temperatures, labelled=task.labels is not None
        )
    answers = []
    for policy in task.policies:
        scores = scored[policy.temperatures]
        answers.append(scores.prediction[policy.exits(scores), np.arange(len(labels))])
    plain = scored[None]
    accuracies = plain.correct.mean(axis=1) if plain.has("correct") else np.full(plain.num_exits, nan)
    return Reference(answers, plain.prediction[-1], accuracies)


class EngineAnswers(NamedTuple):
    """The exits (N,) and executed optional parts (N, P) of all images in the engine by one policy, and their worth."""

    exits: Labels
    executed: npt.NDArray[np.bool_]
    worth: Answered


def answer_all(engine: EarlyExitEngine, task: Task, reference: Reference) -> list[EngineAnswers]:
    """Return the answers of the engine by each policy, and then those of the last exit alone."""
    found = []
    last = ExitPolicy.only(task.network.num_exits - 1, task.network.num_exits)
    for policy, expected in zip([*task.policies, last], [*reference.policies, reference.last], strict=True):
        batches = [task.images[at : at + 256] for at in range(0, len(task.images), 256)]
        answers = list(engine.stream(batches, policy=policy))
        exits, executed, labels = (
            np.concatenate([getattr(each, name) for each in answers]) for name in ("exits", "executed", "labels")
        )
        found.append(EngineAnswers(exits, executed, worth(labels, expected, task.labels)))
    return found
