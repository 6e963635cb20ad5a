"""The report of ranet calibrate, for a few images that can be counted by hand."""

import csv
import io
from math import inf, isnan
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console
from scipy.stats import binomtest

from ranet.calibration import Calibration, ExitScores
from ranet.errors import UserError
from ranet.evaluation import CalibrationReport, calibration_report
from ranet.evaluation.figures.curves import calibration_figure
from ranet.evaluation.reports.calibration import calibration_document, exits_sheet, policies_sheet
from ranet.support.console import print_sheets
from tests.calibration.promises import promise

COSTS = np.array([1e6, 2e6, 4e6])
# Eight images; the exits are right for the first four, six and seven of them.
CONFIDENCE = np.float32([[0.9, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]] * 3)
VALIDATION = ExitScores(CONFIDENCE, correct=np.arange(8) < np.array([[4], [6], [7]]))
# Four images; the exits are right for the first, the first two and the first three of them.
TEST_CONFIDENCE = np.float32([[0.9, 0.2, 0.3, 0.1], [0.9, 0.8, 0.7, 0.1], [1, 1, 1, 1]])
TEST = ExitScores(TEST_CONFIDENCE, correct=np.arange(4) < np.array([[1], [2], [3]]))


def solved(thresholds: tuple[float, float], budget: float | None = None, on: ExitScores = VALIDATION) -> Calibration:
    return promise(thresholds, on, COSTS, family="by hand", unit="macs", budget=budget)


def dear(on: ExitScores = VALIDATION) -> Calibration:
    """Of eight, two leave at the first exit, two at the second, and four at the last; seven are right.

    Of four, one leaves at the first exit, two at the second, and one at the last; two are right.
    """
    return solved((0.85, 0.65), 3e6, on)


def cheap() -> Calibration:
    """All images leave at the first exit, which is right for half of the eight, and one of the four."""
    return solved((-inf, -inf))


def shown(report: CalibrationReport, width: int = 120) -> str:
    output = io.StringIO()
    print_sheets(Console(file=output, width=width), policies_sheet(report))
    return output.getvalue()


def exact(right: int, images: int) -> tuple[float, float]:
    """The interval (95 %) of Clopper and Pearson, in percent."""
    found = binomtest(right, images).proportion_ci(method="exact")
    return 100 * found.low, 100 * found.high


def spaced(report: CalibrationReport) -> list[str]:
    """The lines of the table with single spaces."""
    return [" ".join(line.split()) for line in shown(report).splitlines()]


def test_rows_are_those_that_counting_gives() -> None:
    report = calibration_report([dear(), cheap()], VALIDATION, TEST, COSTS, "macs")
    first, second = policies_sheet(report).rows
    assert (first["policy"], first["score"]) == ("by hand", "confidence")
    expected = {
        # No image can leave elsewhere, so the mean cost is certain.
        **{f"predicted_cost_macs{end}": 1e6 for end in ("", "_low", "_high")},
        "predicted_accuracy_percent": 50.0,
        "predicted_accuracy_percent_low": exact(4, 8)[0],
        "predicted_accuracy_percent_high": exact(4, 8)[1],
        "test_accuracy_percent": 25.0,
        "test_accuracy_percent_low": exact(1, 4)[0],
        "test_accuracy_percent_high": exact(1, 4)[1],
        **{f"{kind}_share_{k}_percent": 100.0 * (k == 1) for kind in ("predicted", "test") for k in (1, 2, 3)},
        "test_cost_macs": 1e6,
        "threshold_1": -inf,
        "threshold_2": -inf,
    }
    assert {name: first[name] for name in expected} == pytest.approx(expected)
    assert all(isnan(float(first[name])) for name in ("budget_macs", "test_cost_against_budget_percent"))
    expected = {
        "budget_macs": 3e6,
        "predicted_cost_macs": (2 * 1e6 + 2 * 2e6 + 4 * 4e6) / 8,
        "predicted_accuracy_percent": 87.5,
        "predicted_accuracy_percent_low": exact(7, 8)[0],
        "predicted_accuracy_percent_high": exact(7, 8)[1],
        **{f"predicted_share_{k}_percent": share for k, share in ((1, 25.0), (2, 25.0), (3, 50.0))},
        "test_cost_macs": (1e6 + 2 * 2e6 + 4e6) / 4,
        "test_cost_against_budget_percent": -25.0,
        "test_accuracy_percent": 50.0,
        **{f"test_share_{k}_percent": share for k, share in ((1, 25.0), (2, 50.0), (3, 25.0))},
        "threshold_1": 0.85,
        "threshold_2": 0.65,
    }
    assert {name: second[name] for name in expected} == pytest.approx(expected)
    assert second["predicted_cost_macs_low"] < 2.75e6 < second["predicted_cost_macs_high"]
    assert list(first) == list(second)


def test_the_table_shows_them_cheapest_first() -> None:
    report = calibration_report([dear(), cheap()], VALIDATION, TEST, COSTS, "macs")
    lines = spaced(report)
    assert "- 1.000 50.00 (15.7-84.3) 100 0 0 1.000 - 25.00 (0.6-80.6)" in lines
    assert "3.000 2.750 87.50 (47.3-99.7) 25 25 50 2.250 -25.00 50.00 (6.8-93.2)" in lines
    assert lines.index("- 1.000 50.00 (15.7-84.3) 100 0 0 1.000 - 25.00 (0.6-80.6)") == len(lines) - 3
    assert "cost in M multiply-adds; in brackets 95 % intervals" in shown(report)


def test_without_test_images_there_are_no_columns_of_them() -> None:
    report = calibration_report([dear()], VALIDATION, None, COSTS, "")
    lines = spaced(report)
    assert "3.000e+06 2.750e+06 87.50 (47.3-99.7) 25 25 50" in lines
    assert "test" not in shown(report)
    assert "cost in" not in shown(report), "the unit is not known"
    (row,) = policies_sheet(report).rows
    assert not [name for name in row if name.startswith("test_")]
    assert {"budget", "predicted_cost", "predicted_cost_low"} <= set(row)


def test_what_is_not_known_is_a_dash() -> None:
    validation, test = ExitScores(CONFIDENCE), ExitScores(TEST_CONFIDENCE)
    report = calibration_report([dear(validation)], validation, test, COSTS, "macs")
    lines = spaced(report)
    assert "3.000 2.750 - 25 25 50 2.250 -25.00 -" in lines
    (row,) = policies_sheet(report).rows
    assert isnan(float(row["predicted_accuracy_percent"]))
    assert isnan(float(row["test_accuracy_percent_high"]))


@pytest.mark.parametrize("exits", [3, 12])
def test_no_number_is_cut_however_many_exits_there_are(exits: int) -> None:
    scores = ExitScores(np.full((exits, 8), 0.5), correct=np.ones((exits, 8)))
    costs = np.arange(1.0, exits + 1) * 1.2e8
    of = promise((-inf,) * (exits - 1), scores, costs, family="by hand", unit="macs", budget=1.2e8)
    report = calibration_report([of], scores, scores, costs, "macs")
    text = shown(report)
    assert "\u2026" not in text
    scale = 1e9 if exits == 12 else 1e6
    assert text.count(f"{1.2e8 / scale:#.4g}") == 3
    assert text.count("100.00 (63.1-100.0)") == 2


def test_the_files_hold_the_same(tmp_path: Path) -> None:
    report = calibration_report([dear(), cheap()], VALIDATION, TEST, COSTS, "macs")
    written = calibration_document(report, "Policies of a network").write(tmp_path)
    assert written == [tmp_path / name for name in ("calibration.csv", "static_exits.csv", "calibration.png")]
    with written[0].open(newline="") as lines:
        for row, expected in zip(csv.DictReader(lines), policies_sheet(report).rows, strict=True):
            assert list(row) == list(expected)
            for name, value in expected.items():
                assert (
                    row[name] == value if isinstance(value, str) else np.isclose(float(row[name]), value, 1e-9, 0, True)
                )
    with written[1].open(newline="") as lines:
        of_exits = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]
    assert [row["cost_macs"] for row in of_exits] == COSTS.tolist()
    for split, right, images in (("validation", (4, 6, 7), 8), ("test", (1, 2, 3), 4)):
        for row, count in zip(of_exits, right, strict=True):
            found = [row[f"{split}_accuracy_percent{end}"] for end in ("", "_low", "_high")]
            assert found == pytest.approx([100 * count / images, *exact(count, images)])
    pixels = (255 * imread(written[2])).round().astype(np.int64)
    colors = set(np.unique(pixels[..., :3] @ [1 << 16, 1 << 8, 1]).tolist())
    assert {0x0072B2, 0xD55E00} <= colors


def test_without_labels_there_is_no_figure(tmp_path: Path) -> None:
    scores = ExitScores(CONFIDENCE)
    report = calibration_report([dear(scores)], scores, TEST, COSTS, "macs")
    written = calibration_document(report, "Exit policies").write(tmp_path)
    assert written == [tmp_path / "calibration.csv", tmp_path / "static_exits.csv"]
    first = exits_sheet(report.exits).rows[0]
    assert first | {"exit": 1, "test_accuracy_percent": 25.0} == first
    assert not any(name.startswith("validation") for name in first)
    report = calibration_report([dear(scores)], scores, None, COSTS, "macs")
    assert calibration_document(report, "").write(tmp_path / "none") == [tmp_path / "none" / "calibration.csv"]


@pytest.mark.parametrize(
    ("test", "alone", "split"),
    [
        (TEST, [0.25, 0.5, 0.75], "test"),
        (None, [0.5, 0.75, 0.875], "validation"),
        (ExitScores(TEST_CONFIDENCE), [0.5, 0.75, 0.875], "validation"),
    ],
)
def test_the_exits_alone_are_those_of_the_images_with_labels(
    test: ExitScores | None, alone: list[float], split: str
) -> None:
    report = calibration_report([cheap()], VALIDATION, test, COSTS, "macs")
    drawn = {str(line.get_label()): line for line in calibration_figure(report).axes[0].get_lines()}
    assert drawn[f"each exit alone ({split})"].get_ydata().tolist() == [100 * accuracy for accuracy in alone]
    assert ("seen on test" in drawn) == (split == "test")


def test_the_figure_has_promise_interval_test_and_exits() -> None:
    report = calibration_report([dear(), cheap()], VALIDATION, TEST, COSTS, "macs")
    figure = calibration_figure(report, "A title")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "mean cost per image [M multiply-adds]"
    assert axes.get_title() == "A title"
    assert axes.get_xlim()[0] == 0
    drawn = {str(line.get_label()): np.array(line.get_data()).round(9).tolist() for line in axes.get_lines()}
    assert drawn == {
        "promised (validation, 95 % interval)": [[1, 2.75], [50, 87.5]],
        "seen on test": [[1, 2.25], [25, 50]],
        "each exit alone (test)": [[1, 2, 4], [25, 50, 75]],
    }
    corners = axes.collections[0].get_paths()[0].vertices.round(6).tolist()
    for cost, right in ((1, 4), (2.75, 7)):
        for end in exact(right, 8):
            assert [cost, round(end, 6)] in corners
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().y1 <= axes.get_tightbbox().y0


def test_one_policy_is_a_point_with_its_interval() -> None:
    figure = calibration_figure(calibration_report([dear()], VALIDATION, None, COSTS, "ms"))
    (axes,) = figure.axes
    assert axes.get_xlabel() == "mean cost per image [milliseconds]"
    (bars,) = axes.containers
    assert bars[0].get_xydata().tolist() == [[2.75e6, 87.5]]
    (segment,) = bars[2][0].get_segments()
    np.testing.assert_allclose(segment, [[2.75e6, end] for end in exact(7, 8)])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == ["each exit alone (validation)", "promised (95 % interval)"]


def test_test_scores_of_another_network_are_refused() -> None:
    with pytest.raises(UserError, match="The policy is for 3 exits and the scores have 2"):
        calibration_report([dear()], VALIDATION, ExitScores(TEST_CONFIDENCE[:2]), COSTS, "macs")


def test_a_budget_that_buys_nothing_is_remarked() -> None:
    worse = ExitScores(CONFIDENCE, correct=np.arange(8) < np.array([[4], [6], [5]]))
    last, middle = solved((inf, inf), on=worse), solved((inf, -inf), on=worse)
    first = solved((-inf, -inf), on=worse)
    remark = calibration_report([last, first, middle], worse, None, COSTS, "macs").remark
    assert remark is not None
    assert "mean cost 2.000 (75.00 %): more budget gives no more accuracy" in remark
    assert calibration_report([first, middle], worse, None, COSTS, "macs").remark is None
    better = [solved(at) for at in ((-inf, -inf), (inf, -inf), (inf, inf))]
    assert calibration_report(better, VALIDATION, None, COSTS, "macs").remark is None
    unlabelled = ExitScores(CONFIDENCE)
    unknown = [solved(at, on=unlabelled) for at in ((-inf, -inf), (inf, -inf), (inf, inf))]
    assert calibration_report(unknown, unlabelled, None, COSTS, "macs").remark is None
