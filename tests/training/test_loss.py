import pytest
import torch
from torch.nn.functional import cross_entropy

from ranet.training import exit_cross_entropies, multi_exit_loss

LABELS = torch.tensor([0, 4, 2, 2, 1, 3, 0])


def logits(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (3 * torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))).to(dtype)


def test_the_loss_is_the_plain_sum_of_the_exits_cross_entropies() -> None:
    expected = (
        cross_entropy(logits()[0], LABELS) + cross_entropy(logits()[1], LABELS) + cross_entropy(logits()[2], LABELS)
    )
    torch.testing.assert_close(multi_exit_loss(logits(), LABELS), expected)


def test_weights_multiply_the_losses_of_their_exits() -> None:
    expected = 0.5 * cross_entropy(logits()[0], LABELS) + 2 * cross_entropy(logits()[2], LABELS)
    torch.testing.assert_close(multi_exit_loss(logits(), LABELS, [0.5, 0, 2]), expected)


def test_an_exit_of_weight_0_learns_nothing() -> None:
    values = logits().requires_grad_()
    multi_exit_loss(values, LABELS, [1, 0, 1]).backward()
    assert values.grad is not None
    assert [bool(gradient.any()) for gradient in values.grad] == [True, False, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_lose_nothing_in_the_loss(dtype: torch.dtype) -> None:
    low = logits(dtype)
    expected = torch.stack([cross_entropy(exit_logits.double(), LABELS) for exit_logits in low])
    losses = exit_cross_entropies(low, LABELS)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected.float(), rtol=1e-6, atol=0)
    # which bfloat16 itself could not say
    assert not torch.allclose(torch.stack([cross_entropy(x, LABELS) for x in low]).float(), losses, rtol=1e-6, atol=0)
