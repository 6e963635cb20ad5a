"""What arrays are scores, and what is done with them on every device."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ranet.calibration import ExitPolicy, ExitScores
from ranet.errors import UserError


def halves(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"prediction": np.zeros((2, 5)), "labels": np.zeros(4)}, r"labels of shape \(4,\)"),
        ({"prediction": np.zeros(5), "labels": np.zeros(5)}, r"prediction of shape \(5,\)"),
        ({"logits": np.zeros((2, 4, 3))}, r"logits of shape \(2, 4, 3\)"),
        ({"logits": np.full((2, 5, 3), np.nan)}, "logits is not a finite number for 5 of 5 images"),
        ({"entropy": halves(2, 5)}, "negative entropy, at most 0.* 0.5..0.5"),
        ({"margin": -halves(2, 5)}, "between 0 and 1; the values are -0.5"),
        ({"confidence": 80 * halves(2, 5)}, "a probability, between 0 and 1; the values are 40"),
    ],
)
def test_arrays_that_are_no_scores_are_named(arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ExitScores(**{"confidence": halves(2, 5), **arrays})


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            {"logits": np.zeros((20, 3, 10)), "labels": np.zeros(20)},
            "The array of logits has shape (20, 3, 10) for 20 labels; it must be (exits, images, classes): "
            "transpose it with numpy.swapaxes(logits, 0, 1).",
        ),
        (
            {"confidence": halves(20, 3), "correct": np.ones((20, 3)), "labels": np.zeros(20)},
            "confidence of shape (20, 3); it must be (exits, images): transpose it with "
            "numpy.swapaxes(confidence, 0, 1).",
        ),
        (
            {"confidence": halves(3, 20), "correct": np.ones((20, 3))},
            "The scores have correct of shape (20, 3), which does not match confidence of shape (3, 20); it must be "
            "(exits, images): transpose it with numpy.swapaxes(correct, 0, 1).",
        ),
        # Nothing says that the images come first where there are as many exits, or labels of neither.
        ({"logits": np.zeros((20, 3, 10)), "labels": np.zeros(7)}, "not (20, 3, 10) and (7,)."),
        (
            {"confidence": halves(20, 3), "labels": np.zeros(7)},
            "shape (7,), which does not match confidence of shape (20, 3).",
        ),
    ],
)
def test_where_the_images_come_first_it_is_said_how_to_transpose(
    arrays: dict[str, np.ndarray], sentence: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "scores.npz", **arrays)
    with pytest.raises(UserError) as refused:
        ExitScores.load(tmp_path / "scores.npz")
    assert str(refused.value).endswith(sentence)


def test_without_labels_costs_and_policies_say_how_many_exits_there_are() -> None:
    scores, policy = ExitScores(halves(20, 3)), ExitPolicy((0.5, 0.5))
    with pytest.raises(UserError, match=r"shape \(20, 3\), and the policy is for 3 exits: .* numpy\.swapaxes"):
        policy.exits(scores)
    with pytest.raises(UserError, match="The policy is for 3 exits and the scores have 20"):
        policy.exits(ExitScores(halves(20, 4)))
    assert len(policy.exits(ExitScores(halves(3, 3)))) == 3


def test_excluded_classes_keep_their_logits() -> None:
    logits = torch.randn(2, 5, 3)
    logits[:, :, 1] = -torch.inf
    scores = ExitScores.from_logits(logits, torch.zeros(5, dtype=torch.int64), keep_logits=True)
    assert np.isneginf(scores.logits[:, :, 1]).all()
    assert np.isfinite(scores.entropy).all()


def test_a_file_of_logits_is_not_read_in_part(tmp_path: Path) -> None:
    np.savez(tmp_path / "scores.npz", logits=np.zeros((2, 5, 3)), correct=np.ones((2, 5)))
    with pytest.raises(UserError, match="correct is not read; give only labels"):
        ExitScores.load(tmp_path / "scores.npz")


def test_right_answers_where_each_image_leaves() -> None:
    correct = np.array([[True, False, True], [False, True, True]])
    answers = ExitScores(halves(2, 3), correct=correct).correct_at(np.array([0, 0, 1]))
    assert answers is not None
    assert answers.tolist() == [True, False, True]
    assert ExitScores(halves(2, 3)).correct_at(np.array([0, 0, 1])) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_scores_are_the_same_on_cpu_and_gpu() -> None:
    logits, labels = torch.randn(4, 500, 100), torch.randint(100, (500,))
    cpu, gpu = (ExitScores.from_logits(logits.to(device), labels) for device in ("cpu", "cuda"))
    assert (cpu.prediction == gpu.prediction).all()
    for name in ("confidence", "margin", "entropy"):
        np.testing.assert_allclose(cpu.score(name), gpu.score(name), atol=1e-6)
