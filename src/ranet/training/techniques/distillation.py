"""One-for-all distillation: the last exit, or another network, teaches the exits (Li et al., ICCV 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ranet.errors import UserError
from ranet.training.loss import at_least_float32, exit_cross_entropies, mean_of_images, weighted_sum


def exit_divergences(
    logits: Tensor, teacher_logits: Tensor, temperature: float, image_weights: Tensor | None = None
) -> Tensor:
    """Return the Kullback-Leibler divergence of each exit from the teacher, in nats, averaged over the images.

    It is ``KL(softmax(t / T) || softmax(z / T))``, summed over the classes, computed at least in float32.

    Args:
        logits: (K, B, C).
        teacher_logits: (B, C).
        temperature: T > 0.
        image_weights: (K, B) weights of the images at each exit, or None for 1.

    Returns:
        (K,) divergences.

    Example:
        >>> exit_divergences(torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]]), torch.tensor([[2.0, 0.0]]), temperature=1.0)
        tensor([0.3278, 0.0000])
    """
    student = F.log_softmax(at_least_float32(logits) / temperature, dim=-1)
    teacher = F.log_softmax(at_least_float32(teacher_logits) / temperature, dim=-1).expand_as(student)
    divergences = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)
    return mean_of_images(divergences, image_weights)


def distillation_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float = 3.0,
    gamma: float = 0.3,
    teach_last: bool = False,
    exit_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    image_weights: Tensor | None = None,
) -> Tensor:
    """Return the one-for-all loss: every exit but the last learns from the labels and from a teacher.

    ``CE(z_last, y) + sum_{k < last} [(1 - gamma) * CE(z_k, y) + gamma * T^2 * KL(softmax(t / T) || softmax(z_k / T))]``

    Both terms are means over the images, so the effect of gamma does not depend on the batch size or the number of
    classes. (The authors' code also divides the divergence by the number of classes, so its gamma differs.) The teacher
    gets no gradient. Source: Li et al., "Improved Techniques for Training Adaptive Deep Networks", ICCV 2019, section
    3.3; Hinton et al., 2015.

    Args:
        logits: (K, B, C).
        teacher_logits: (B, C); for a network that teaches itself, those of its last exit.
        labels: class indices (B,), or probabilities (B, C).
        temperature: T > 0.
        gamma: share of the teacher, from 0 (the plain sum) to 1.
        teach_last: whether the last exit also learns from the teacher, which must then be better.
        exit_weights: K weights of the exits' terms, or None for 1.
        label_smoothing: see ``exit_cross_entropies``.
        image_weights: (K, B) weights of the images in the terms of each exit, or None for 1.

    Returns:
        The loss, a scalar.

    Raises:
        UserError: if temperature or gamma is out of range, or the teacher's logits are not (B, C).
    """
    check_distillation(temperature, gamma)
    if teacher_logits.shape != logits.shape[1:]:
        raise UserError(
            f"The teacher's logits have the shape {tuple(teacher_logits.shape)}, but those of an exit "
            f"{tuple(logits.shape[1:])}; both are (images, classes)."
        )
    cross_entropies = exit_cross_entropies(logits, labels, label_smoothing, image_weights)
    divergences = exit_divergences(logits, teacher_logits.detach(), temperature, image_weights)
    share = torch.full_like(cross_entropies, gamma)
    if not teach_last:
        share[-1] = 0
    return weighted_sum((1 - share) * cross_entropies + share * temperature**2 * divergences, exit_weights)


def check_distillation(temperature: float, gamma: float) -> None:
    """Raise a UserError if the temperature is not positive, or gamma is not in [0, 1]."""
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature={temperature} must be a positive number.")
    if not 0 <= gamma <= 1:
        raise UserError(f"gamma={gamma} must be from 0 to 1.")
