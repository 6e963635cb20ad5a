"""Survivor weights against simulated thresholds, and in the losses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranet.training.loss import exit_cross_entropies, multi_exit_loss
from ranet.training.techniques.distillation import distillation_loss
from ranet.training.techniques.survivors import survivor_weights


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 6))
def test_they_are_the_share_of_thresholds_under_which_an_image_gets_there(seed: int, exits: int, images: int) -> None:
    logits = 2 * torch.randn(exits, images, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    confidence = logits.softmax(-1).amax(-1)
    thresholds = (torch.arange(2000) + 0.5) / 2000
    here = torch.ones(len(thresholds), images, dtype=torch.bool)
    wanted = []
    for k in range(exits):
        share = here.double().mean(dim=0)
        wanted.append(share / share.mean())
        here &= confidence[k] < thresholds[:, None]
    torch.testing.assert_close(survivor_weights(logits), torch.stack(wanted), atol=0.02, rtol=0.02)


def test_where_all_images_are_sure_nothing_is_learned_and_nothing_breaks() -> None:
    logits = torch.tensor([[[1000.0, 0.0]], [[0.0, 1.0]]], requires_grad=True)
    weights = survivor_weights(logits)
    assert weights.tolist() == [[1.0], [0.0]]
    assert not weights.requires_grad


def test_the_losses_are_sums_over_weighted_images() -> None:
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    labels, weights = torch.tensor([0, 1, 2, 3, 0]), survivor_weights(logits)
    each = torch.stack([exit_cross_entropies(logits[:, i : i + 1], labels[i : i + 1]) for i in range(5)], dim=1)
    assert multi_exit_loss(logits, labels, image_weights=weights) == pytest.approx((each * weights).mean(1).sum())
    one = torch.ones(3, 5)
    teacher = logits[-1]
    assert distillation_loss(logits, teacher, labels, image_weights=one) == distillation_loss(logits, teacher, labels)
    # With the teacher alone, an image of weight 0 has no say.
    none = torch.ones(3, 5)
    none[:, 2:] = 0
    found = distillation_loss(logits[:2], teacher, labels, gamma=1.0, teach_last=True, image_weights=none[:2])
    part = distillation_loss(logits[:2, :2], teacher[:2], labels[:2], gamma=1.0, teach_last=True)
    assert found == pytest.approx(part * 2 / 5)
