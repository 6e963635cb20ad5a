import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from ranet.calibration import ExitScores
from ranet.cost.units import CostScale
from ranet.errors import UserError
from ranet.evaluation import anytime_curve, calibration_error_per_exit, expected_calibration_error


def test_calibration_error_is_that_of_torchmetrics_on_all_probabilities():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 500, 10, generator=generator)
    labels = torch.randint(10, (500,), generator=generator)
    ours = calibration_error_per_exit(ExitScores.from_logits(logits, labels))
    for k in range(3):
        theirs = multiclass_calibration_error(logits[k].softmax(-1), labels, num_classes=10, n_bins=15)
        assert ours[k] == pytest.approx(float(theirs), abs=1e-6)


def test_calibration_error_by_its_definition():
    """Two bins that hold something: 3 of 4 right at 0.95, 1 of 2 right at 0.5."""
    confidence = np.float32([0.95] * 4 + [0.5] * 2)
    correct = np.array([True, True, True, False, True, False])
    expected = 4 / 6 * abs(0.75 - 0.95) + 2 / 6 * abs(0.5 - 0.5)
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-6)


def test_a_confidence_that_rounding_puts_above_one_is_a_probability():
    confidence = np.nextafter(np.ones(4, dtype=np.float32), np.float32(2))
    assert expected_calibration_error(confidence, np.ones(4, dtype=bool)) == pytest.approx(0.0, abs=1e-6)


def test_anytime_curve_counts(scored):
    curve = anytime_curve(scored.test, scored.costs)
    for k in range(4):
        right = sum(int(p == t) for p, t in zip(scored.test.prediction[k], scored.test.labels, strict=True))
        assert curve.top1[k] == pytest.approx(right / scored.test.num_images)
    assert (curve.top5 >= curve.top1).all()
    np.testing.assert_array_equal(curve.cost, scored.costs)
    with pytest.raises(UserError, match="each of the 4 exits"):
        anytime_curve(scored.test, [1.0])


@pytest.mark.parametrize(
    ("cost", "unit", "text", "label"),
    [
        (28_758_834, "paper_ops", "28.76", "M multiply-adds (paper ops)"),
        (3.334e9, "macs", "3.334", "G multiply-adds"),
        (5_120, "macs", "5.120", "k multiply-adds"),
        (12.5, "ms", "12.50", "milliseconds"),
        (7.0, "parsecs", "7.000", "parsecs"),
    ],
)
def test_costs_are_scaled_as_people_write_them(cost, unit, text, label):
    scale = CostScale.of([cost / 3, cost], unit)
    assert (scale.text(cost), scale.label) == (text, label)
