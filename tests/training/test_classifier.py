from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from ranet.errors import UserError
from ranet.training import MultiExitClassifier, cosine_schedule, step_schedule
from tests.training.examples import rows, small_classifier, small_data, small_network, small_trainer

WEIGHTS = [0.5, 2.0]


def measured(network: torch.nn.Module, batches: Any) -> dict[str, float]:
    """Loss and accuracies over the images of all batches, by hand."""
    loss, right, images = 0.0, torch.zeros(2), 0
    with torch.no_grad():
        for batch, labels in batches:
            logits = network(batch)
            losses = [cross_entropy(exit_logits, labels, reduction="sum").item() for exit_logits in logits]
            loss += sum(weight * value for weight, value in zip(WEIGHTS, losses, strict=True))
            right += (logits.argmax(-1) == labels).float().sum(dim=1)
            images += len(labels)
    shares = (right / images).tolist()
    names = ("accuracy_exit1", "accuracy_exit2", "accuracy_mean")
    return {"loss": loss / images, **dict(zip(names, [*shares, sum(shares) / 2], strict=True))}


def test_the_logged_numbers_are_those_of_all_images(tmp_path: Path) -> None:
    # Without steps (rate 0) the training images are seen by the weights that there were at the beginning.
    network, data = small_network(), small_data()
    small_trainer(tmp_path, 1).fit(small_classifier(network, lr=0, exit_weights=WEIGHTS), datamodule=data)
    logged = {name: float(value) for row in rows(tmp_path) for name, value in row.items() if value}

    fresh, again = small_network(), small_data()
    train = measured(fresh.train(), again.train_dataloader())
    val = measured(fresh.eval(), again.val_dataloader())  # with the statistics of batch normalisation so learned
    expected = {f"train/{name}": value for name, value in train.items()}
    expected |= {f"val/{name}": value for name, value in val.items()}
    assert {name: logged[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert len({len(labels) for _, labels in again.train_dataloader()}) == 2, "batches of one size do not show the mean"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 1, 1], "has 3 weights, but the network has 2 exits"),
        ([1], "has 1 weights, but the network has 2 exits"),
        (3, "must be a list of numbers"),
        (["a", 1], "must be a list of numbers"),
        ([1, -1], "none below 0"),
        ([1, float("nan")], "must be finite"),
        ([0, 0], "not all 0"),
    ],
)
def test_exit_weights_that_do_not_fit_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_classifier(exit_weights=weights)


@pytest.mark.parametrize(
    ("optimizer", "schedule", "message"),
    [
        (
            partial(SGD, lr=-1.0),
            cosine_schedule,
            "The optimizer cannot be made from its options: Invalid learning rate",
        ),
        (partial(SGD, lr="fast"), cosine_schedule, "The optimizer cannot be made"),
        (partial(SGD, lr=0.1, beta=1), cosine_schedule, "The optimizer cannot be made.*'beta'"),
        (partial(SGD, lr=0.1), partial(step_schedule, milestones=0.5), "The schedule cannot be made"),
        (partial(SGD, lr=0.1), partial(step_schedule, milestones=[2]), "must be increasing shares"),
    ],
)
def test_options_that_optimizer_or_schedule_do_not_take_are_the_users(
    optimizer: Any, schedule: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        MultiExitClassifier(small_network(), optimizer, schedule).make_optimization(epochs=10)


def test_training_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_epochs must be at least 1"):
        small_trainer(tmp_path, 0).fit(small_classifier(), datamodule=small_data())
