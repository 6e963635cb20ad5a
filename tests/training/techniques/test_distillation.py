"""One-for-all distillation against the formula written out image by image."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from ranet.errors import UserError
from ranet.training import distillation_loss, multi_exit_loss


def example(exits: int, images: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        3 * torch.randn(exits, images, classes, generator=generator, dtype=torch.float64),
        3 * torch.randn(images, classes, generator=generator, dtype=torch.float64),
        torch.randint(classes, (images,), generator=generator),
    )


def image_by_image(
    logits: Tensor, teacher: Tensor, labels: Tensor, temperature: float, gamma: float, teach_last: bool = False
) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    exits, images, _ = logits.shape
    for i in range(images):
        for k in range(exits):
            own = cross_entropy(logits[k, i : i + 1], labels[i : i + 1])
            if k == exits - 1 and not teach_last:
                total += own
                continue
            student = log_softmax(logits[k, i] / temperature, dim=0)
            target = softmax(teacher[i] / temperature, dim=0)
            total += (1 - gamma) * own + gamma * temperature**2 * kl_div(student, target, reduction="sum")
    return total / images


@given(
    exits=st.integers(1, 4),
    images=st.integers(1, 9),
    classes=st.integers(2, 12),
    temperature=st.floats(0.5, 10),
    gamma=st.floats(0, 1),
    teach_last=st.booleans(),
)
def test_it_is_the_formula_for_every_image(
    exits: int, images: int, classes: int, temperature: float, gamma: float, teach_last: bool
) -> None:
    logits, teacher, labels = example(exits, images, classes)
    expected = image_by_image(logits, teacher, labels, temperature, gamma, teach_last)
    loss = distillation_loss(logits, teacher, labels, temperature=temperature, gamma=gamma, teach_last=teach_last)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)


def test_the_same_images_twice_give_the_same_loss() -> None:
    logits, teacher, labels = example(3, 5, 10)
    once = distillation_loss(logits, teacher, labels)
    twice = distillation_loss(logits.repeat(1, 2, 1), teacher.repeat(2, 1), labels.repeat(2))
    torch.testing.assert_close(once, twice)


def test_without_a_share_of_the_teacher_it_is_the_plain_sum() -> None:
    logits, teacher, labels = example(3, 5, 10)
    torch.testing.assert_close(distillation_loss(logits, teacher, labels, gamma=0), multi_exit_loss(logits, labels))


def test_the_teacher_learns_nothing_and_a_perfect_pupil_loses_nothing() -> None:
    logits, _, labels = example(3, 5, 10)
    logits = logits[-1:].repeat(3, 1, 1).requires_grad_()
    teacher = logits[-1] * 1
    loss = distillation_loss(logits, teacher, labels, gamma=1)
    torch.testing.assert_close(loss, cross_entropy(logits[-1], labels))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[:-1].abs().max() < 1e-12
    expected = softmax(logits[-1], dim=1)
    expected[range(5), labels] -= 1
    torch.testing.assert_close(logits.grad[-1], expected / 5)


def test_weights_and_smoothing_are_those_of_the_plain_loss() -> None:
    logits, teacher, labels = example(2, 4, 6)
    weights = [0.5, 2.0]
    teacher_term = kl_div(
        log_softmax(logits[0] / 2, dim=1), log_softmax(teacher / 2, dim=1), reduction="batchmean", log_target=True
    )
    smooth = [cross_entropy(exit_logits, labels, label_smoothing=0.1) for exit_logits in logits]
    expected = 0.5 * (0.7 * smooth[0] + 0.3 * 4 * teacher_term) + 2 * smooth[1]
    loss = distillation_loss(
        logits, teacher, labels, temperature=2, gamma=0.3, exit_weights=weights, label_smoothing=0.1
    )
    torch.testing.assert_close(loss, expected)


def test_half_precision_logits_lose_nothing_in_the_loss() -> None:
    logits, teacher, labels = example(2, 4, 6)
    low, low_teacher = logits.bfloat16(), teacher.bfloat16()
    loss = distillation_loss(low, low_teacher, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss.double(), distillation_loss(low.double(), low_teacher.double(), labels), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "must be a positive number"),
        ({"temperature": math.inf}, "must be a positive number"),
        ({"gamma": 1.5}, "must be from 0 to 1"),
        ({"gamma": -0.1}, "must be from 0 to 1"),
        ({"gamma": math.nan}, "must be from 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        distillation_loss(*example(2, 3, 4), **options)  # type: ignore[arg-type]


def test_a_teacher_of_other_classes_is_refused() -> None:
    logits, _, labels = example(2, 3, 4)
    with pytest.raises(UserError, match=r"the shape \(3, 5\), but those of an exit \(3, 4\)"):
        distillation_loss(logits, torch.zeros(3, 5), labels)
