import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from ranet.errors import UserError
from ranet.training import cosine_schedule, step_schedule

CONF = Path(__file__).parents[3] / "conf" / "optim"


def optimizer(lr: float = 0.1) -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr)


def rates(schedule: LRScheduler, steps: int) -> list[float]:
    """The rate that each training step is done with, and the one after the last."""
    seen = []
    for _ in range(steps):
        seen.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return [*seen, schedule.get_last_lr()[0]]


@pytest.mark.parametrize(
    ("recipe", "epochs", "expected"),
    [
        ("published", 300, {0: 0.1, 149: 0.1, 150: 0.01, 224: 0.01, 225: 0.001, 299: 0.001}),
        ("published_imagenet", 90, {0: 0.1, 29: 0.1, 30: 0.01, 59: 0.01, 60: 0.001, 89: 0.001}),
    ],
)
def test_the_published_recipes_fall_tenfold_at_the_published_epochs(
    recipe: str, epochs: int, expected: dict[int, float]
) -> None:
    milestones = list(OmegaConf.load(CONF / f"{recipe}.yaml").schedule.milestones)
    factor = OmegaConf.load(CONF / "published.yaml").schedule.factor
    per_epoch = 7
    seen = rates(step_schedule(optimizer(), epochs, epochs * per_epoch, milestones, factor), epochs * per_epoch)
    for epoch, rate in expected.items():
        of_epoch = seen[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert of_epoch == pytest.approx([rate] * per_epoch, rel=1e-12), epoch


@pytest.mark.parametrize(("epochs", "expected"), [(1, [1.0]), (2, [1.0, 0.1]), (3, [1.0, 1.0, 0.01])])
def test_the_first_epoch_has_the_base_rate_however_short_the_training(epochs: int, expected: list[float]) -> None:
    seen = rates(step_schedule(optimizer(1.0), epochs, epochs, [0.5, 0.75]), epochs)
    assert seen[:-1] == pytest.approx(expected)


def test_cosine_without_warm_up_is_pytorchs() -> None:
    ours = rates(cosine_schedule(optimizer(), epochs=4, steps=20, final_factor=0.2), 20)
    theirs = rates(CosineAnnealingLR(optimizer(), T_max=20, eta_min=0.02), 20)
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_cosine_rises_over_the_warm_up_and_then_falls_to_its_end() -> None:
    seen = rates(cosine_schedule(optimizer(0.4), epochs=5, steps=50, warmup_epochs=1.2, final_factor=0.05), 50)
    for step in range(12):
        assert seen[step] == pytest.approx(0.4 * (step + 1) / 12)
    for step in range(12, 51):
        share = (step - 12) / 38
        assert seen[step] == pytest.approx(0.4 * (0.05 + 0.95 * (1 + math.cos(math.pi * share)) / 2))
    assert max(seen) == seen[11] == seen[12] == 0.4
    assert seen[-1] == pytest.approx(0.02)


@pytest.mark.parametrize("milestones", [[0.5, 0.25], [0.0, 0.5], [0.5, 1.0], [150, 225], [-0.5], [math.nan]])
def test_milestones_that_are_not_increasing_shares_are_refused(milestones: list[float]) -> None:
    with pytest.raises(UserError, match="milestones="):
        step_schedule(optimizer(), 300, 2100, milestones)


@pytest.mark.parametrize("warmup", [-1, 5, 7, math.nan])
def test_a_warm_up_that_is_not_shorter_than_the_training_is_refused(warmup: float) -> None:
    with pytest.raises(UserError, match="warmup_epochs="):
        cosine_schedule(optimizer(), 5, 50, warmup_epochs=warmup)
