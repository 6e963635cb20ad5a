"""What the answers in a benchmark are worth: right or wrong, and the same as those of the network as trained or not."""

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
    """What is to be answered by what.

    Attributes:
        network: as trained, where PyTorch is to run.
        policies: for it, whose answers are compared with one another.
        images: (N, 3, H, W) float32.
        labels: (N,); None where they are not known.
    """

    network: StagedNetwork
    policies: Sequence[ExitPolicy]
    images: Images
    labels: Labels | None


class Reference(NamedTuple):
    """The answers of the network as trained, in float32: by each policy (N,), by the last exit, and top-1 of all."""

    policies: Sequence[Labels]
    last: Labels
    exit_accuracies: Floats


def reference_answers(task: Task, batch_size: int = 100) -> Reference:
    """Replay the policies on the logits of all exits of the plain network."""
    labels = np.zeros(len(task.images), dtype=np.int64) if task.labels is None else task.labels
    scored: dict[tuple[float, ...] | None, ExitScores] = {}
    answers = []
    for temperatures in dict.fromkeys([None, *(policy.temperatures for policy in task.policies)]):
        batches = [
            (torch.from_numpy(task.images[at : at + batch_size]), torch.from_numpy(labels[at : at + batch_size]))
            for at in range(0, len(labels), batch_size)
        ]
        scored[temperatures] = ExitScores.collect(
            task.network, batches, temperatures=temperatures, labelled=task.labels is not None
        )
    for policy in task.policies:
        scores = scored[policy.temperatures]
        answers.append(scores.prediction[policy.exits(scores), np.arange(len(labels))])
    plain = scored[None]
    accuracies = plain.correct.mean(axis=1) if plain.has("correct") else np.full(plain.num_exits, nan)
    return Reference(answers, plain.prediction[-1], accuracies)


class EngineAnswers(NamedTuple):
    """What the engine answers to all images, by each policy: exits (N,), what its answers are worth, executed parts."""

    exits: Sequence[Labels]
    worth: Sequence[Answered]
    last_exit: Answered
    executed: Sequence[npt.NDArray[np.bool_] | None]

    def of_parts(self, policy: int, part_costs: Floats) -> Floats:
        """Return (N,) what the executed optional parts of the network cost under a policy."""
        executed = self.executed[policy]
        return np.zeros(len(self.exits[policy])) if executed is None else executed @ part_costs


def answer_all(engine: EarlyExitEngine, task: Task, reference: Reference) -> EngineAnswers:
    """Let the engine answer all images by each policy."""
    exits, values, executed = [], [], []
    last = ExitPolicy.only(task.network.num_exits - 1, task.network.num_exits)
    for policy, expected in zip([*task.policies, last], [*reference.policies, reference.last], strict=True):
        batches = [task.images[at : at + 256] for at in range(0, len(task.images), 256)]
        answers = list(engine.stream(batches, policy=policy))
        exits.append(np.concatenate([each.exits for each in answers]))
        records = [each.executed for each in answers if each.executed is not None]
        executed.append(np.concatenate(records) if records else None)
        values.append(worth(np.concatenate([each.labels for each in answers]), expected, task.labels))
    return EngineAnswers(exits[:-1], values[:-1], values[-1], executed[:-1])
