import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import multiclass_accuracy

from ranet.calibration import ExitScores
from ranet.errors import UserError


class Network(nn.Module):
    """Two exits with a layer that tells training from evaluation, and one that is frozen in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(6).eval()
        self.heads = nn.ModuleList([nn.Linear(6, 7), nn.Linear(6, 7)])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        features = self.frozen(self.dropout(images))
        return torch.stack([head(features) for head in self.heads])


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(3, 50, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.randint(10, (50,), generator=torch.Generator().manual_seed(1))


def test_from_logits_is_the_largest_softmax_probability(logits, labels):
    scores = ExitScores.from_logits(logits, labels)
    probabilities = logits.softmax(-1).numpy()
    assert scores.confidence.dtype == np.float32
    np.testing.assert_array_equal(scores.confidence, probabilities.max(-1))
    np.testing.assert_array_equal(scores.prediction, probabilities.argmax(-1))
    assert (scores.num_exits, scores.num_images) == (3, 50)


def test_accuracies_agree_with_torchmetrics(logits, labels):
    scores = ExitScores.from_logits(logits, labels)
    for k in range(3):
        top1 = multiclass_accuracy(logits[k], labels, num_classes=10, average="micro")
        top5 = multiclass_accuracy(logits[k], labels, num_classes=10, average="micro", top_k=5)
        assert scores.correct[k].mean() == pytest.approx(float(top1))
        assert scores.correct_top5[k].mean() == pytest.approx(float(top5))


def test_numpy_tensors_and_half_precision_are_accepted(logits, labels):
    exact = ExitScores.from_logits(logits, labels)
    numpy = ExitScores.from_logits(logits.numpy(), labels.numpy())
    half = ExitScores.from_logits(logits.bfloat16().requires_grad_(), labels.int())
    np.testing.assert_array_equal(exact.confidence, numpy.confidence)
    np.testing.assert_allclose(exact.confidence, half.confidence, atol=0.02)
    assert half.confidence.dtype == np.float32


def test_fewer_than_five_classes_are_all_in_the_top_five():
    assert ExitScores.from_logits(torch.randn(2, 8, 3), torch.zeros(8)).correct_top5.all()


def test_collect_equals_scoring_all_logits_at_once(labels):
    network = Network().train()
    network.frozen.eval()
    images = torch.randn(50, 6)
    batches = [(images[i : i + 16], labels[i : i + 16] % 7) for i in range(0, 50, 16)]
    collected = ExitScores.collect(network, batches)
    modes = (network.training, network.dropout.training, network.frozen.training)
    assert modes == (True, True, False), "every module's mode is as before"
    with torch.no_grad():
        whole = ExitScores.from_logits(network.eval()(images), labels % 7)
    np.testing.assert_allclose(collected.confidence, whole.confidence, rtol=1e-5)
    np.testing.assert_array_equal(collected.prediction, whole.prediction)
    np.testing.assert_array_equal(collected.labels, whole.labels)


def test_collect_restores_the_mode_after_an_error():
    network = Network().train()
    with pytest.raises(RuntimeError):
        ExitScores.collect(network, [(torch.randn(2, 5), torch.zeros(2))])
    assert network.training


def test_concatenate_joins_what_subset_splits(scores):
    first, second = scores.subset(slice(0, 100)), scores.subset(np.arange(100, scores.num_images))
    joined = ExitScores.concatenate([first, second])
    np.testing.assert_array_equal(joined.confidence, scores.confidence)
    np.testing.assert_array_equal(joined.correct_top5, scores.correct_top5)
    np.testing.assert_array_equal(joined.labels, scores.labels)


def test_save_and_load(scores, tmp_path):
    path = tmp_path / "scores"  # no suffix: the name is the user's
    scores.save(path)
    again = ExitScores.load(path)
    for name in ("confidence", "prediction", "correct_top5", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(scores, name))
        assert getattr(again, name).dtype == getattr(scores, name).dtype
    assert [file.name for file in tmp_path.iterdir()] == ["scores"]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(4, 10), torch.zeros(4), r"must be \(exits, images, classes\)"),
        (torch.zeros(2, 4, 10), torch.zeros(5), r"must be \(exits, images, classes\)"),
        (torch.zeros(2, 0, 10), torch.zeros(0), "nothing to score"),
        (torch.zeros(2, 4, 10), torch.full((4,), 10), r"must lie in 0\.\.9"),
        (torch.zeros(2, 4, 10), torch.full((4,), -1), r"must lie in 0\.\.9"),
        (torch.full((2, 4, 10), torch.nan), torch.zeros(4), "not a finite number for 4 of 4 images"),
    ],
)
def test_mistakes_in_logits_are_named(logits, labels, message):
    with pytest.raises(UserError, match=message):
        ExitScores.from_logits(logits, labels)


def test_an_empty_loader_is_named():
    with pytest.raises(UserError, match="gave no batch"):
        ExitScores.collect(Network(), [])


def test_an_empty_selection_and_unequal_parts_are_named(scores):
    with pytest.raises(UserError, match="no images"):
        scores.subset(np.array([], dtype=int))
    with pytest.raises(UserError, match="same number of exits"):
        ExitScores.concatenate([scores, ExitScores.from_logits(torch.zeros(2, 4, 10), torch.zeros(4))])
    with pytest.raises(UserError, match="at least one"):
        ExitScores.concatenate([])


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_a_wrong_score_file_is_named(content, tmp_path):
    path = tmp_path / "scores.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="score"):
        ExitScores.load(path)


def test_another_npz_is_no_score_file(tmp_path):
    np.savez(tmp_path / "other.npz", logits=np.zeros(3))
    with pytest.raises(UserError, match="logits must be numbers in 3 dimensions"):
        ExitScores.load(tmp_path / "other.npz")
