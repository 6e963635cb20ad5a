import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from torch import nn
from torchmetrics.functional.classification import multiclass_accuracy

from ranet.calibration import ExitScores
from ranet.calibration.scores.in_numpy import patience_scores
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


def softmax_in_float64(logits: np.ndarray, temperatures: list[float]) -> np.ndarray:
    scaled = logits.astype(np.float64) / np.asarray(temperatures)[:, None, None]
    weights = np.exp(scaled - scaled.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 9))
some_logits = arrays(np.float32, shapes, elements=st.floats(-60, 60, width=32))
some_predictions = arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(1, 6)), elements=st.integers(0, 2))


@given(logits=some_logits, data=st.data())
def test_scores_are_their_definitions(logits, data):
    """Margin by sorting and entropy by SciPy, in float64, at any temperatures."""
    temperatures = data.draw(st.lists(st.floats(0.1, 10), min_size=len(logits), max_size=len(logits)))
    scores = ExitScores.from_logits(logits, temperatures=temperatures)
    probabilities = softmax_in_float64(logits, temperatures)
    ordered = np.sort(probabilities, axis=-1)[..., ::-1]
    margin = ordered[..., 0] - (ordered[..., 1] if logits.shape[-1] > 1 else 0)
    np.testing.assert_allclose(scores.confidence, ordered[..., 0], atol=1e-5)
    np.testing.assert_allclose(scores.margin, margin, atol=1e-5)
    np.testing.assert_allclose(scores.entropy, -stats.entropy(probabilities, axis=-1), atol=1e-4)
    # Of classes that float32 cannot tell apart, any may be predicted.
    of_predicted = np.take_along_axis(probabilities, scores.prediction[..., None], -1)[..., 0]
    np.testing.assert_allclose(of_predicted, ordered[..., 0], atol=1e-5)
    assert (scores.margin >= 0).all()
    assert (scores.entropy <= 1e-6).all()
    assert (scores.entropy >= -math.log(logits.shape[-1]) - 1e-5).all()


def test_margin_and_entropy_in_closed_form():
    """Of two classes whose logits differ by d: p = 1 / (1 + exp(-d)); of equal ones, and of one alone."""
    d = np.float32([0.0, 0.5, 2.0, 8.0])
    p = 1 / (1 + np.exp(-d.astype(np.float64)))
    scores = ExitScores.from_logits(np.stack([d, np.zeros_like(d)], axis=-1)[None])
    np.testing.assert_allclose(scores.confidence[0], p, rtol=1e-6)
    np.testing.assert_allclose(scores.margin[0], np.tanh(d / 2), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(scores.entropy[0], p * np.log(p) + (1 - p) * np.log1p(-p), rtol=1e-4)
    uniform = ExitScores.from_logits(np.full((1, 1, 1000), 3.0))
    assert uniform.margin[0, 0] == 0
    assert uniform.entropy[0, 0] == pytest.approx(-math.log(1000), rel=1e-6)
    alone = ExitScores.from_logits(np.full((1, 1, 1), -5.0))
    assert (alone.confidence[0, 0], alone.margin[0, 0], alone.entropy[0, 0]) == (1, 1, 0)


def test_classes_that_are_excluded_say_nothing():
    """A logit of minus infinity is a class that was ruled out: as if it were not there."""
    logits = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    without = ExitScores.from_logits(logits)
    more = ExitScores.from_logits(np.concatenate([logits, np.full((2, 6, 3), -np.inf, np.float32)], axis=-1))
    for name in ("confidence", "margin", "entropy"):
        np.testing.assert_allclose(getattr(more, name), getattr(without, name), rtol=1e-5)


def test_saturated_logits_stay_finite_and_certain():
    scores = ExitScores.from_logits(np.float32([[[3e38, -3e38, 0]], [[1e4, 0, 0]]]))
    for name, certain in (("confidence", 1), ("margin", 1), ("entropy", 0)):
        assert getattr(scores, name).tolist() == [[certain], [certain]]


def test_a_temperature_is_a_division_and_keeps_predictions(logits, labels):
    """A high one makes an exit less sure, alone of all exits; 1 is none."""
    plain = ExitScores.from_logits(logits, labels)
    temperatures = [1.0, 4.0, 0.5]
    scaled = ExitScores.from_logits(logits, labels, temperatures=temperatures)
    divided = ExitScores.from_logits(logits / torch.tensor(temperatures)[:, None, None], labels)
    for name in ("confidence", "margin", "entropy", "prediction", "correct_top5"):
        np.testing.assert_array_equal(getattr(scaled, name), getattr(divided, name))
    np.testing.assert_array_equal(scaled.correct, plain.correct)
    np.testing.assert_array_equal(scaled.confidence[0], plain.confidence[0])
    assert (scaled.confidence[1] < plain.confidence[1]).all()
    assert (scaled.confidence[2] > plain.confidence[2]).all()
    assert scaled.temperatures.tolist() == temperatures
    np.testing.assert_array_equal(ExitScores.from_logits(logits, temperatures=np.ones(3)).confidence, plain.confidence)


@given(predictions=some_predictions)
def test_runs_of_agreement_by_looking_back(predictions):
    runs = patience_scores(predictions, np.zeros(predictions.shape, np.float32))
    for k, image in np.ndindex(*predictions.shape):
        back = predictions[: k + 1, image][::-1]
        differing = np.flatnonzero(back != back[0])
        assert runs[k, image] == (differing[0] if len(differing) else k + 1)


@given(predictions=some_predictions, data=st.data())
def test_patience_of_t_exits_when_t_exits_agree(predictions, data):
    """The confidence orders those of equal runs, and never makes up for an exit, not even where it is 1."""
    elements = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0]))
    confidence = data.draw(arrays(np.float32, predictions.shape, elements=elements))
    patience = patience_scores(predictions, confidence)
    runs = patience_scores(predictions, np.zeros_like(confidence))
    assert patience.dtype == np.float32
    for t in range(1, len(predictions) + 2):
        np.testing.assert_array_equal(patience >= t, runs >= t)
    first, second = runs.ravel()[:, None], runs.ravel()[None]
    surer = confidence.ravel()[:, None] >= confidence.ravel()[None]
    at_least = patience.ravel()[:, None] >= patience.ravel()[None]
    assert at_least[first > second].all()
    assert at_least[(first == second) & surer].all()


def test_a_run_of_31_exits_and_full_confidence_is_not_32():
    patience = patience_scores(np.zeros((31, 1), dtype=np.int64), np.ones((31, 1), dtype=np.float32))
    assert (np.floor(patience[:, 0]) == np.arange(1, 32)).all()


def test_score_gives_what_policies_compare(scores):
    for name in ("confidence", "margin", "entropy", "patience"):
        np.testing.assert_array_equal(scores.score(name), getattr(scores, name))
    with pytest.raises(UserError, match="confidence, margin, entropy, patience, not 'labels'"):
        scores.score("labels")


def test_images_without_labels(logits, labels, tmp_path):
    known, scores = ExitScores.from_logits(logits, labels), ExitScores.from_logits(logits)
    for name in ("confidence", "margin", "entropy", "prediction", "patience"):
        np.testing.assert_array_equal(getattr(scores, name), getattr(known, name))
    for name in ("labels", "correct", "correct_top5"):
        assert not scores.has(name)
        with pytest.raises(UserError, match="These scores have no"):
            getattr(scores, name)
    scores.save(tmp_path / "scores.npz")
    assert not ExitScores.load(tmp_path / "scores.npz").has("labels")
    network = Network()
    batches = [(torch.randn(4, 6), torch.full((4,), -1))]
    assert not ExitScores.collect(network, batches, labelled=False).has("labels")
    with pytest.raises(UserError, match=r"must lie in 0\.\.6"):
        ExitScores.collect(network, batches)


def test_joining_keeps_what_all_have(logits, labels):
    with_labels, without = ExitScores.from_logits(logits, labels), ExitScores.from_logits(logits)
    joined = ExitScores.concatenate([with_labels, without])
    assert (joined.num_images, joined.has("labels"), joined.has("margin")) == (100, False, True)
    other = ExitScores.from_logits(logits, labels, temperatures=[2.0] * 3)
    with pytest.raises(UserError, match="same temperatures"):
        ExitScores.concatenate([with_labels, other])
    ones = ExitScores.from_logits(logits, labels, temperatures=[1.0] * 3)
    assert ExitScores.concatenate([with_labels, ones]).num_images == 100


def test_logits_and_temperatures_are_kept_where_asked(logits, labels, tmp_path):
    network, images = Network(), torch.randn(50, 6)
    batches = [(images[i : i + 16], labels[i : i + 16] % 7) for i in range(0, 50, 16)]
    scores = ExitScores.collect(network, batches, temperatures=[0.5, 2.0], keep_logits=True)
    with torch.no_grad():
        network.eval()
        expected = torch.cat([network(batch) for batch, _ in batches], dim=1)
    np.testing.assert_array_equal(scores.logits, expected)
    scores.save(tmp_path / "scores.npz")
    again = ExitScores.load(tmp_path / "scores.npz")
    np.testing.assert_array_equal(again.logits, scores.logits)
    assert again.temperatures.tolist() == [0.5, 2.0]
    part = again.subset([3, 1])
    np.testing.assert_array_equal(part.logits, expected[:, [3, 1]])
    assert part.temperatures.tolist() == [0.5, 2.0]
    with pytest.raises(UserError, match="were not kept"):
        _ = ExitScores.from_logits(logits).logits


@pytest.mark.parametrize("temperatures", [[1.0], [1.0, 1.0, 0.0], [1.0, -1.0, 1.0], [1.0, math.nan, 1.0], 2.0])
def test_wrong_temperatures_are_named(temperatures, logits, scores):
    with pytest.raises(UserError, match="one positive temperature for each of the 3 exits"):
        ExitScores.from_logits(logits, temperatures=temperatures)
    with pytest.raises(UserError, match="one positive temperature for each of the 4 exits"):
        ExitScores(scores.confidence, temperatures=temperatures)


class TestFilesOfOtherPrograms:
    def test_logits_are_scored(self, logits, labels, tmp_path):
        np.savez(tmp_path / "a.npz", logits=logits.double().numpy(), labels=labels.numpy().astype(np.uint8))
        np.savez(tmp_path / "b.npz", logits=logits.half().numpy(), temperatures=[1, 2, 3])
        expected = ExitScores.from_logits(logits, labels)
        np.testing.assert_allclose(ExitScores.load(tmp_path / "a.npz").entropy, expected.entropy, rtol=1e-6)
        np.testing.assert_array_equal(ExitScores.load(tmp_path / "a.npz").correct, expected.correct)
        half = ExitScores.load(tmp_path / "b.npz")
        assert (half.has("labels"), half.temperatures.tolist()) == (False, [1, 2, 3])

    def test_what_is_known_is_enough(self, tmp_path):
        """Confidence alone, or with correctness that was found elsewhere, of whatever numeric types."""
        confidence = np.array([[0.25, 0.5], [0.75, 1.0]])
        np.savez(tmp_path / "a.npz", confidence=confidence, correct=np.array([[0, 1], [1, 1]]))
        scores = ExitScores.load(tmp_path / "a.npz")
        assert scores.correct.tolist() == [[False, True], [True, True]]
        assert scores.confidence.dtype == np.float32
        with pytest.raises(UserError, match="no margins"):
            scores.score("margin")
        with pytest.raises(UserError, match="no predicted classes"):
            scores.score("patience")

    def test_labels_and_predictions_overrule_a_correctness_that_contradicts_them(self):
        scores = ExitScores([[0.5, 0.5]], [[1, 2]], labels=[1, 1], correct=[[False, True]])
        assert scores.correct.tolist() == [[True, False]]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({}, "holds nothing"),
            ({"scores": np.zeros((2, 3))}, "holds scores; a score file holds confidence"),
            ({"confidence": np.zeros((2, 3)), "more": np.zeros(3)}, "holds confidence, more"),
            ({"labels": np.zeros(3)}, "holds labels"),
            ({"confidence": np.zeros(3)}, "confidence must be numbers in 2 dimensions, not float64 of shape"),
            ({"confidence": np.array([["a", "b"]])}, "confidence must be numbers in 2 dimensions"),
            ({"confidence": np.zeros((2, 3), dtype=complex)}, "confidence must be numbers"),
            ({"confidence": np.zeros((2, 0))}, "no images"),
            ({"confidence": np.zeros((0, 3))}, "no images"),
            ({"confidence": np.zeros((2, 3)), "margin": np.zeros((3, 2))}, r"margin of shape \(3, 2\)"),
            ({"confidence": np.zeros((2, 3)), "labels": np.zeros(2)}, r"labels of shape \(2,\)"),
            ({"confidence": np.full((2, 3), np.nan)}, "confidence is not a finite number for 3 of 3 images"),
            ({"confidence": np.zeros((1, 2)), "entropy": np.array([[0, -np.inf]])}, "entropy .* 1 of 2 images"),
            ({"logits": np.zeros((2, 3, 4)), "labels": np.array([0, 1, 4])}, r"must lie in 0\.\.3"),
            ({"logits": np.zeros((2, 3, 4)), "labels": np.zeros(2)}, "labels"),
            ({"logits": np.zeros((2, 3, 4)), "temperatures": np.ones(3)}, "one positive temperature for each of the 2"),
            ({"confidence": np.zeros((2, 3)), "temperatures": np.zeros(2)}, "one positive temperature"),
        ],
    )
    def test_mistakes_are_named_with_the_file(self, content, message, tmp_path):
        np.savez(tmp_path / "other.npz", **content)
        with pytest.raises(UserError, match=message) as caught:
            ExitScores.load(tmp_path / "other.npz")
        assert "other.npz" in str(caught.value)

    def test_pickled_objects_are_not_run(self, tmp_path):
        np.savez(tmp_path / "other.npz", confidence=np.array([[{}]], dtype=object))
        with pytest.raises(UserError, match="plain arrays"):
            ExitScores.load(tmp_path / "other.npz")

    def test_an_array_alone_and_a_folder(self, tmp_path):
        np.save(tmp_path / "confidence.npy", np.zeros((2, 3)))
        with pytest.raises(UserError, match="not a file of exit scores"):
            ExitScores.load(tmp_path / "confidence.npy")
        with pytest.raises(UserError, match="cannot be read"):
            ExitScores.load(tmp_path)

    @pytest.mark.filterwarnings("ignore")
    @given(data=st.data(), compressed=st.booleans())
    def test_damaged_files_are_named(self, data, compressed, tmp_path_factory):
        """Whatever is changed, the file is either refused in one sentence or its arrays are what they were."""
        path = tmp_path_factory.getbasetemp() / "damaged.npz"
        confidence = np.linspace(0, 1, 6).reshape(2, 3).astype(np.float32)
        (np.savez_compressed if compressed else np.savez)(path, confidence=confidence)
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["bit", "byte", "cut"])):
            case "bit":
                content[place] ^= 1 << data.draw(st.integers(0, 7))
            case "byte":
                content[place] = data.draw(st.integers(0, 255))
            case "cut":
                del content[place:]
        path.write_bytes(content)
        try:
            scores = ExitScores.load(path)
        except UserError as error:
            assert "damaged.npz" in str(error)  # noqa: PT017
        else:
            np.testing.assert_array_equal(scores.confidence, confidence)
