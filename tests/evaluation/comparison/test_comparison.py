import re
import statistics
from collections.abc import Callable
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp, ttest_rel

from ranet.calibration import ExitScores, calibrate
from ranet.errors import UserError
from ranet.evaluation import expected_calibration_error
from ranet.evaluation.comparison.comparison import Comparison, common_budgets, compare, paired_difference, statistic
from ranet.evaluation.comparison.finished_runs import FinishedRun, find_runs, flat_options, read_run
from ranet.evaluation.comparison.grouping import group_labels, group_runs
from ranet.evaluation.figures.comparison import comparison_figure
from ranet.evaluation.reports.comparison import budget_rows, comparison_document, exit_rows, write_comparison

WriteRun = Callable[..., Path]
UNIT = "paper_ops"


def read(*folders: Path) -> list[FinishedRun]:
    return [read_run(folder, UNIT) for folder in find_runs(folders).finished]


@pytest.fixture(scope="module")
def sweep(write_run: WriteRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain with three seeds, ge with two of them and one of its own, and isc, a longer network, once."""
    folder = tmp_path_factory.mktemp("sweep")
    for name, seeds, exits in (("ge", (0, 1, 5), 3), ("plain", (0, 1, 2), 3), ("isc", (1,), 4)):
        for seed in seeds:
            write_run(folder / f"{name}_{seed}", seed, exits=exits, **{"technique.name": name})
    return folder


@pytest.fixture(scope="module")
def comparison(sweep: Path) -> Comparison:
    return compare(read(sweep), UNIT, budgets=5)


# Statistics


@pytest.mark.parametrize("n", [2, 3, 8])
def test_mean_and_deviation_are_the_samples(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n).tolist()
    found = statistic(values)
    assert found.n == n
    assert found.mean == pytest.approx(statistics.mean(values))
    assert found.std == pytest.approx(statistics.stdev(values))


def test_one_run_has_no_deviation_and_none_has_no_mean() -> None:
    assert statistic([0.5]).mean == 0.5
    assert isnan(statistic([0.5]).std)
    assert isnan(statistic([]).mean)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_difference_is_paired_and_its_interval_is_student_s(n: int) -> None:
    ours, theirs = np.random.default_rng(n).normal(size=(2, n))
    values = {(str(seed),): value for seed, value in enumerate(ours)} | {("only ours",): 100.0}
    baseline = {(str(seed),): value for seed, value in reversed(list(enumerate(theirs)))} | {("only theirs",): 9.0}
    found = paired_difference(values, baseline)
    interval = ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.n == n
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.mean == pytest.approx(statistics.mean(ours - theirs))
    assert found.std == pytest.approx(statistics.stdev(ours - theirs))


def test_a_difference_without_spread_or_without_pairs() -> None:
    same = paired_difference({("0",): 3.0, ("1",): 4.0}, {("0",): 1.0, ("1",): 2.0})
    assert (same.mean, same.std, same.low, same.high) == (2, 0, 2, 2)
    one = paired_difference({("0",): 3.0}, {("0",): 1.0})
    assert (one.n, one.mean) == (1, 2)
    assert all(map(isnan, (one.std, one.low, one.high)))
    none = paired_difference({("0",): 3.0}, {("1",): 1.0})
    assert none.n == 0
    assert isnan(none.mean)


# Grouping

A, B = {"technique.name": "plain"}, {"technique.name": "ge"}


@pytest.mark.parametrize(
    ("groups", "labels"),
    [
        ([A], ["plain"]),
        ([{"model.name": "ranet_tiny"}], ["ranet_tiny"]),
        ([{}], ["all runs"]),
        ([A, B], ["plain", "ge"]),
        # all that differs belongs to the technique, and its name says it
        ([A | {"technique.stages": "1"}, B | {"technique.stages": "2"}], ["plain", "ge"]),
        # the name says it for one only
        ([A, B | {"technique.gamma": "1"}, B | {"technique.gamma": "2"}], ["plain", "ge gamma=1", "ge gamma=2"]),
        # another section differs as well, and is not kept back
        ([A | {"trainer.epochs": "3"}, B | {"trainer.epochs": "6"}], ["plain, epochs=3", "ge, epochs=6"]),
        (
            [B | {"model.name": "a"}, A | {"model.name": "b"}, A | {"model.name": "a"}],
            ["ge, a", "plain, b", "plain, a"],
        ),
        # the fewest options, by the shortest names that are clear
        ([{"optim.optimizer.lr": "1", "optim.b": "2"}, {"optim.optimizer.lr": "3", "optim.b": "4"}], ["lr=1", "lr=3"]),
        (
            [{"o.lr": "1"}, {"o.lr": "1", "p.lr": "2"}, {"o.lr": "2"}],
            ["o.lr=1, no p.lr", "o.lr=1, p.lr=2", "o.lr=2, no p.lr"],
        ),
        (
            [{"lr": "1", "o.lr": "1"}, {"lr": "2", "o.lr": "1"}, {"lr": "2", "o.lr": "2"}],
            ["lr=1, o.lr=1", "lr=2, o.lr=1", "lr=2, o.lr=2"],
        ),
        # from before the option was there
        ([{}, A], ["no technique.name", "plain"]),
        ([{}, {"ema": "0.9"}], ["no ema", "ema=0.9"]),
    ],
)
def test_labels_are_as_short_as_is_clear(groups: list[dict[str, str]], labels: list[str]) -> None:
    assert group_labels(groups) == labels


METHOD = ("technique.name", "technique.gamma", "model.name", "optim.lr", "optim.schedule.lr", "data.train_limit")
BESIDE = ("run", "logger.wandb.mode", "data.seed", "unit")
CONFIGS = st.lists(
    st.fixed_dictionaries(
        {"seed": st.sampled_from("01")}, optional={name: st.sampled_from("01") for name in (*METHOD, *BESIDE)}
    ),
    min_size=1,
    max_size=8,
)


@given(CONFIGS)
def test_runs_are_in_one_group_exactly_if_only_what_makes_no_method_differs(runs: list[dict[str, str]]) -> None:
    grouping = group_runs(runs)
    group_of = {number: group for group, members in enumerate(grouping.members) for number in members}
    assert sorted(group_of) == list(range(len(runs)))
    for i, one in enumerate(runs):
        for j, other in enumerate(runs):
            alike = all(one.get(name) == other.get(name) for name in METHOD)
            assert (group_of[i] == group_of[j]) == alike
    assert len(set(grouping.labels)) == len(grouping.labels) == len(grouping.members)
    assert not grouping.pooled


@given(CONFIGS)
def test_grouping_by_an_option_names_what_is_pooled(runs: list[dict[str, str]]) -> None:
    runs = [{"optim.lr": "0", **run} for run in runs]
    grouping = group_runs(runs, ["optim"])
    for members in grouping.members:
        assert len({(runs[i]["optim.lr"], runs[i].get("optim.schedule.lr")) for i in members}) == 1
    within = {
        name
        for name in METHOD
        if any(len({runs[i].get(name) for i in members}) > 1 for members in grouping.members)
    }  # fmt: skip
    assert set(grouping.pooled) == within


def test_an_option_that_no_run_has_is_named() -> None:
    with pytest.raises(UserError, match=r"Unknown option to group by 'technique.nam'; did you mean technique.name"):
        group_runs([A, B], ["technique.nam"])


def test_what_differs_beside_the_grouping_is_told() -> None:
    runs = [A | {"trainer.max_epochs": "3"}, B | {"trainer.max_epochs": "6"}]
    grouping = group_runs(runs, ["technique.name"])
    assert grouping.labels == ("plain", "ge")
    assert [details["trainer.max_epochs"] for details in grouping.details] == ["3", "6"]


def test_equal_numbers_are_written_alike() -> None:
    assert flat_options({"a": {"lr": 1e-4}, "b": 0}) == flat_options({"a": {"lr": 0.0001}, "b": 0.0})
    assert flat_options({"a": 1}) != flat_options({"a": True})


# Finding and reading


def test_runs_are_found_once_and_in_order(write_run: WriteRun, tmp_path: Path) -> None:
    for number in (10, 9):
        write_run(tmp_path / "sweep" / f"{number}_job", number)
    write_run(tmp_path / "sweep" / "9_job" / "stage1", 9)
    write_run(tmp_path / "sweep" / ".old", 1)
    unfinished = write_run(tmp_path / "sweep" / "11_job", 11)
    (unfinished / "evaluation" / "report.json").unlink()
    evaluated = write_run(tmp_path / "sweep" / "evaluated")  # by ranet evaluate, which writes a configuration, too
    (evaluated / "config.yaml").write_text("checkpoint: 9_job\nmodel: {name: null}\ndata: {}\nseed: 0\n")
    (tmp_path / "link").symlink_to(tmp_path / "sweep" / "10_job")
    (tmp_path / "sweep" / "loop").symlink_to(tmp_path)
    found = find_runs([tmp_path / "sweep" / "10_job", tmp_path / "sweep", tmp_path, tmp_path / "link"])
    assert [folder.name for folder in found.finished] == ["10_job", "9_job"]
    assert found.unfinished == (unfinished,)
    assert [f.name for f in find_runs([tmp_path / "sweep"]).finished] == ["9_job", "10_job"]
    assert [f.name for f in find_runs([tmp_path / "sweep" / "9_job" / "stage1"]).finished] == ["stage1"]


def test_a_run_is_read_with_costs_in_the_unit(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 3, **{"data.seed": 4})
    run = read_run(folder, "paper_ops")
    assert run.costs.cumulative().tolist() == [1_001_000, 2_002_000, 3_003_000]
    assert read_run(folder, "macs").costs.cumulative().tolist() == [1e6, 2e6, 3e6]
    assert (run.seed, run.git_revision, run.test.num_images) == ("3 (data 4)", "0123abc", 40)
    (folder / "environment.json").unlink()
    assert read_run(folder, "macs").git_revision == ""


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("evaluation/scores_test.npz", None, "no score file"),
        ("evaluation/scores_test.npz", "no scores", "not a file of exit scores"),
        ("evaluation/scores_validation.npz", "no scores", "not a file of exit scores"),
        ("evaluation/costs.json", None, "there is no costs.json"),
        ("evaluation/costs.json", "{", "not valid JSON"),
        ("evaluation/costs.json", "{}", "one cumulative cost for each of the 3 exits"),
        ("evaluation/costs.json", '{"paper_ops_per_exit": ["a", 1, 2]}', "one number for each exit"),
    ],
)
def test_a_damaged_evaluation_is_named_with_what_to_do(
    file: str, content: str | None, message: str, write_run: WriteRun, tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run")
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    with pytest.raises(UserError, match=f"{re.escape(str(folder))}.*{message}.*ranet evaluate checkpoint="):
        read_run(folder, UNIT)


def test_scores_of_two_networks_are_refused(write_run: WriteRun, tmp_path: Path) -> None:
    folder, other = write_run(tmp_path / "run"), write_run(tmp_path / "other", exits=4)
    (other / "evaluation" / "scores_validation.npz").rename(folder / "evaluation" / "scores_validation.npz")
    with pytest.raises(UserError, match="not all of 3 exits"):
        read_run(folder, UNIT)


@pytest.mark.parametrize("text", ["a: [", "a: ${b}", "\x00"])
def test_a_damaged_configuration_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config.yaml cannot be read"):
        find_runs([tmp_path])


# Comparing


def test_each_exit_equals_a_computation_by_hand(comparison: Comparison, sweep: Path) -> None:
    runs = {run.folder.name: run for run in read(sweep)}
    assert [group.label for group in comparison.groups] == ["plain", "ge", "isc"]
    points = {(point.group, point.place): point for point in comparison.exits}
    assert sorted(points) == sorted(
        [(g, k) for g in ("plain", "ge") for k in (1, 2, 3)] + [("isc", k) for k in (1, 2, 3, 4)]
    )

    def top1(run: FinishedRun, k: int) -> float:
        return statistics.mean(float(a == b) for a, b in zip(run.test.prediction[k], run.test.labels, strict=True))

    for k in range(3):
        point, members = points["ge", k + 1], [runs[f"ge_{seed}"] for seed in (0, 1, 5)]
        values = [top1(run, k) for run in members]
        assert point.top1.n == 3
        assert point.top1.mean == pytest.approx(statistics.mean(values))
        assert point.top1.std == pytest.approx(statistics.stdev(values))
        assert point.cost.mean == 1_001_000 * (k + 1)
        top5 = [run.test.correct_top5[k].mean() for run in members]
        errors = [expected_calibration_error(run.test.confidence[k], run.test.correct[k]) for run in members]
        assert point.top5.std == pytest.approx(statistics.stdev(top5))
        assert point.calibration_error.mean == pytest.approx(statistics.mean(errors))
        # Only seeds 0 and 1 are in both.
        pairs = [top1(runs[f"ge_{seed}"], k) - top1(runs[f"plain_{seed}"], k) for seed in (0, 1)]
        interval = ttest_1samp(pairs, 0).confidence_interval(0.95)
        assert point.difference.n == 2
        assert point.difference.mean == pytest.approx(statistics.mean(pairs))
        # Of two pairs the interval is wider than all that accuracies can differ by.
        expected = np.clip([interval.low, interval.high], -1, 1)
        assert [point.difference.low, point.difference.high] == pytest.approx(expected)
        assert points["plain", k + 1].difference is None
    assert points["isc", 3].difference.n == 1
    assert points["isc", 4].difference.n == 0, "the baseline has no such exit"
    assert isnan(points["isc", 4].top1.std)


def test_along_the_budget_equals_a_computation_image_by_image(comparison: Comparison, sweep: Path) -> None:
    runs = {run.folder.name: run for run in read(sweep)}
    budgets = sorted({point.place for point in comparison.budgets})
    np.testing.assert_allclose(budgets, np.linspace(1_001_000, 3_003_000, 5))
    for budget in budgets:
        cost, right = [], []
        for run in (runs[f"plain_{seed}"] for seed in (0, 1, 2)):
            thresholds = calibrate(run.validation, run.costs.cumulative(), budget, alternatives=False).policy.thresholds
            exits = [
                next((k for k, threshold in enumerate(thresholds) if run.test.confidence[k, i] >= threshold), 2)
                for i in range(40)
            ]
            cost.append(statistics.mean(float(run.costs.cumulative()[k]) for k in exits))
            right.append(
                statistics.mean(float(run.test.prediction[k, i] == run.test.labels[i]) for i, k in enumerate(exits))
            )
        (point,) = [point for point in comparison.budgets if (point.group, point.place) == ("plain", budget)]
        assert (point.cost.mean, point.cost.std) == pytest.approx((statistics.mean(cost), statistics.stdev(cost)))
        assert (point.top1.mean, point.top1.std) == pytest.approx((statistics.mean(right), statistics.stdev(right)))
    last = {point.group: point for point in comparison.budgets if point.place == budgets[-1]}
    exits = {point.group: point for point in comparison.exits if point.place == 3}
    for group in ("plain", "ge"):  # with this budget all of their images run to the last exit
        assert last[group].top1.mean == pytest.approx(exits[group].top1.mean)
        if group == "ge":
            assert last[group].difference.mean == pytest.approx(exits[group].difference.mean)


def test_budgets_suit_all_networks_or_none() -> None:
    assert common_budgets([np.array([1.0, 5.0]), np.array([3.0, 9.0])], 2).tolist() == [3, 5]
    assert not len(common_budgets([np.array([1.0, 2.0]), np.array([2.0, 9.0])], 2))
    assert not len(common_budgets([], 2))


@pytest.mark.parametrize("baseline", ["ge", "isc"])
def test_the_baseline_can_be_chosen(baseline: str, sweep: Path) -> None:
    comparison = compare(read(sweep), UNIT, baseline=baseline, budgets=2)
    assert comparison.baseline == baseline
    assert {point.group for point in comparison.exits if point.difference is None} == {baseline}


def test_without_plain_the_first_group_is_the_baseline(sweep: Path) -> None:
    assert compare(read(sweep / "isc_1", sweep / "ge_0"), UNIT, budgets=2).baseline == "isc"


def test_an_unknown_baseline_is_named(sweep: Path) -> None:
    with pytest.raises(UserError, match="Unknown group 'plane'; did you mean plain"):
        compare(read(sweep), UNIT, baseline="plane")


def test_runs_without_validation_are_compared_exit_by_exit_only(write_run: WriteRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"with_{seed}", seed)
    without = write_run(tmp_path / "without", 2, validation=False)
    one_exit = write_run(tmp_path / "one_exit", 3, exits=1)
    comparison = compare(read(tmp_path), UNIT, budgets=2)
    assert [point.top1.n for point in comparison.exits] == [4, 3, 3]
    assert [point.top1.n for point in comparison.budgets] == [2, 2]
    (note,) = comparison.notes
    assert str(without) in note
    assert str(one_exit) in note
    assert "(n=2)" not in comparison_document(comparison).page().split("## Each exit")[1].split("##")[0]
    assert "(n=3)" in comparison_document(comparison).page(), "a cell says when its n is not that of the heading"


def test_networks_whose_costs_do_not_overlap_have_no_common_budget(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "small")
    write_run(tmp_path / "runs" / "large", first_cost=9_000_000, **{"model.name": "ranet_large"})
    comparison = compare(read(tmp_path), UNIT)
    assert not comparison.budgets
    assert any("No budget suits all runs" in note for note in comparison.notes)
    assert len(comparison_figure(comparison).axes) == 1
    output = tmp_path / "output"
    output.mkdir()
    (output / "budgets.csv").write_text("of an earlier comparison")
    assert set(write_comparison(output, comparison)) == {file.name for file in output.iterdir()}
    assert not (output / "budgets.csv").exists()


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"data.name": "cifar10"}, "tested on digits, the other on cifar10"),
        ({"images": 41}, "tested on 40 images, the other on 41"),
    ],
)
def test_runs_on_other_data_are_refused(difference: dict, message: str, write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", 1, **difference)
    with pytest.raises(UserError, match=message):
        compare(read(tmp_path), UNIT)


def test_runs_on_other_labels_are_refused(write_run: WriteRun, tmp_path: Path) -> None:
    runs = read(write_run(tmp_path / "a"), write_run(tmp_path / "b", 1))
    runs[1].test.labels[7] += 1
    with pytest.raises(UserError, match="their labels differ"):
        compare(runs, UNIT)


def test_a_seed_counts_once_in_a_group(write_run: WriteRun, tmp_path: Path) -> None:
    for name in ("a", "again"):
        write_run(tmp_path / name, 7)
    with pytest.raises(UserError, match=r"a and .*again are both seed 7 of the group 'ranet_tiny'; .* leave one"):
        compare(read(tmp_path), UNIT)


def test_pooled_runs_are_paired_by_what_was_pooled(write_run: WriteRun, tmp_path: Path) -> None:
    for technique in ("plain", "ge"):
        for epochs in (1, 2):
            options = {"technique.name": technique, "trainer.max_epochs": epochs}
            write_run(tmp_path / f"{technique}_{epochs}", 0, **options)
    comparison = compare(read(tmp_path), UNIT, keys=["technique.name"], budgets=2)
    assert comparison.notes == ("Runs are pooled that differ in trainer.max_epochs.",)
    top1 = {run.folder.name: run.test.correct[0].mean() for run in comparison.runs}
    (point,) = [point for point in comparison.exits if (point.group, point.place) == ("ge", 1)]
    pairs = [top1[f"ge_{epochs}"] - top1[f"plain_{epochs}"] for epochs in (1, 2)]
    assert (point.difference.n, point.difference.std) == (2, pytest.approx(statistics.stdev(pairs)))


# Tables and figure


def test_an_option_that_one_method_has_does_not_part_the_pairs(write_run: WriteRun, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path / f"plain_{seed}", seed, **{"technique.name": "plain", "technique.teacher": None})
        taught = {"technique.name": "ofa", "technique.teacher": f"runs/teacher_{seed}"}
        write_run(tmp_path / f"ofa_{seed}", seed, **taught)
    by_name = compare(read(tmp_path), UNIT, keys=["technique.name"], budgets=2)
    assert by_name.notes == ("Runs are pooled that differ in technique.teacher.",)
    assert {point.difference.n for point in by_name.exits if point.difference} == {3}


def test_groups_without_a_common_seed_are_said(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path / "plain", 0, **{"technique.name": "plain"})
    write_run(tmp_path / "ge", 1, **{"technique.name": "ge"})
    notes = compare(read(tmp_path), UNIT, budgets=2).notes
    assert notes == ("No run of ge has a partner of the same seed in plain.",)


def test_rows_leave_the_baseline_s_difference_empty(comparison: Comparison) -> None:
    for rows in (exit_rows(comparison), budget_rows(comparison)):
        for row in rows:
            assert (row["pairs"] == row["top1_difference_mean"] == row["difference_to"] == "") == (
                row["group"] == "plain"
            )
        assert len({tuple(row) for row in rows}) == 1
    first = exit_rows(comparison)[0]
    assert first["top1_percent_mean"] == pytest.approx(100 * comparison.exits[0].top1.mean)


def test_equal_differences_have_no_interval(write_run: WriteRun, tmp_path: Path) -> None:
    """Two seeds with the same difference do not show how much another seed differs."""
    for name in ("plain", "ge"):
        for seed in (0, 1):
            folder = write_run(tmp_path / f"{name}_{seed}", seed, **{"technique.name": name})
            for split in ("test", "validation"):
                file = folder / "evaluation" / f"scores_{split}.npz"
                same = ExitScores.load(tmp_path / f"{name}_0" / "evaluation" / file.name)
                same.save(file)
    found = compare(read(tmp_path), UNIT, budgets=2)
    for point in (*found.exits, *found.budgets):
        if point.difference is not None:
            assert (point.difference.n, point.difference.std) == (2, 0)
            assert isnan(point.difference.low)
            assert isnan(point.difference.high)
    assert "[" not in comparison_document(found).page().split("difference to")[1].split("|", 1)[1]


def test_the_page_says_n_seeds_and_from_what(comparison: Comparison, sweep: Path) -> None:
    page = comparison_document(comparison, ["the sweep"]).page()
    assert "| ge | 3 | 0 1 5 | technique.name=ge |" in page
    assert "| exit | cost | plain (n=3) | ge (n=3) | isc (n=1) |" in page
    assert "| exit | cost | ge (n=2) | isc (n=1) |" in page
    assert f"| isc | 1 | `{sweep / 'isc_1'}` | 0123abc |" in page
    assert "Found in `the sweep`." in page
    lone = next(point for point in comparison.exits if point.group == "isc")
    exact = binomtest(round(40 * lone.top1.mean), 40).proportion_ci(method="exact")
    assert f"| {100 * lone.top1.mean:.2f} ({100 * exact.low:.1f}-{100 * exact.high:.1f}) |" in page
    assert "over n runs (of one run, its 95 % interval over the test images)" in page
    assert "nan" not in page


def test_costs_stand_at_each_accuracy_where_groups_differ(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", first_cost=1_500_000, **{"model.name": "msdnet_tiny"})
    page = comparison_document(compare(read(tmp_path), UNIT, budgets=2)).page()
    assert "| exit | ranet_tiny (n=1) | msdnet_tiny (n=1) |" in page
    assert re.search(r"\| 1 \| [\d.]+ \([\d.-]+\) at 1\.001 \| [\d.]+ \([\d.-]+\) at 1\.501 \|", page)


def test_the_figure_has_a_band_for_each_group_with_a_deviation(comparison: Comparison) -> None:
    figure = comparison_figure(comparison)
    for axes, points in zip(figure.axes, (comparison.exits, comparison.budgets), strict=True):
        assert [str(line.get_label()) for line in axes.get_lines()] == ["plain (n=3)", "ge (n=3)", "isc (n=1)"]
        bands = dict(zip(("plain", "ge"), axes.collections, strict=True))
        for group, line in zip(("plain", "ge", "isc"), axes.get_lines(), strict=True):
            own = [point for point in points if point.group == group]
            cost = [point.cost.mean / 1e6 for point in own]
            np.testing.assert_allclose(line.get_xdata(), cost)
            np.testing.assert_allclose(line.get_ydata(), [100 * point.top1.mean for point in own])
            if group in bands:
                corners = {tuple(np.round(corner, 6)) for corner in bands[group].get_paths()[0].vertices}
                for x, point in zip(cost, own, strict=True):
                    for side in (-1, 1):
                        edge = 100 * (point.top1.mean + side * point.top1.std)
                        assert tuple(np.round((x, edge), 6)) in corners
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.y1 <= min(axes.get_tightbbox().y0 for axes in figure.axes)


def test_many_groups_look_different(write_run: WriteRun, tmp_path: Path) -> None:
    for number in range(10):
        write_run(tmp_path / str(number), validation=False, **{"technique.name": f"method_{number}"})
    (axes,) = comparison_figure(compare(read(tmp_path), UNIT)).axes
    lines = axes.get_lines()
    assert len({line.get_color() for line in lines[:8]}) == 8
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 10
