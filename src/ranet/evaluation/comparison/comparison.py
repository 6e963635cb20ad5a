"""Comparison of methods over seeds: mean, standard deviation and paired differences, by exit and by budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from ranet.calibration.policies.outcome import costs_of_images, evaluate_policy
from ranet.calibration.solvers.budget import calibrate
from ranet.cost.table import ImageCosts
from ranet.errors import UserError, unknown_name
from ranet.evaluation.comparison.finished_runs import FinishedRun
from ranet.evaluation.comparison.grouping import group_runs
from ranet.evaluation.curves.anytime import anytime_curve

CONFIDENCE = 0.95
BASELINE = "plain"
Pair = tuple[str | None, ...]
Place = int | float


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation (n - 1 in the denominator) over n independent runs; NaN for too few runs."""

    n: int
    mean: float
    std: float


@dataclass(frozen=True)
class Difference(Statistic):
    """The mean of n paired differences, with the 95 % interval of Student's t; NaN for fewer than two pairs."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one method, by what pairs them with those of other groups: the seed and the pooled options.

    Its label is unique; details are the options in which it differs from another group.
    """

    label: str
    runs: Mapping[Pair, FinishedRun]
    details: Mapping[str, str]


@dataclass(frozen=True)
class Point:
    """A group at an exit or a budget; accuracies are fractions."""

    group: str  # label of the group
    place: Place  # the exit, counted from 1, or the budget in the unit of the costs
    # Cost of an image that leaves at the exit, or mean cost on the test images of the policies for the budget.
    cost: Statistic
    top1: Statistic  # top-1 accuracy
    difference: Difference | None  # top-1 accuracy minus that of the baseline; None for the baseline itself
    top5: Statistic | None = None  # top-5 accuracy; only for an exit
    calibration_error: Statistic | None = None  # expected calibration error; only for an exit


@dataclass(frozen=True, eq=False)
class Comparison:
    """All groups, the baseline first, with a point for each group and exit, and sentences for the reader.

    There is also a point for each group and budget; none if no budget suits all runs.
    """

    groups: tuple[Group, ...]
    unit: str
    exits: tuple[Point, ...]
    budgets: tuple[Point, ...]
    notes: tuple[str, ...]

    @property
    def images(self) -> int:
        """The number of test images, the same for all runs."""
        return self.runs[0].test.num_images

    @property
    def baseline(self) -> str:
        """The label of the group that the others are compared with."""
        return self.groups[0].label

    @property
    def runs(self) -> list[FinishedRun]:
        """All runs, group after group."""
        return [run for group in self.groups for run in group.runs.values()]


def statistic(values: Iterable[float]) -> Statistic:
    """Return mean and sample standard deviation.

    Example:
        >>> statistic([1.0, 2.0, 3.0]), statistic([0.5])
        (Statistic(n=3, mean=2.0, std=1.0), Statistic(n=1, mean=0.5, std=nan))
    """
    array = np.array(list(values), dtype=np.float64)
    n = len(array)
    return Statistic(n, float(array.mean()) if n else nan, float(array.std(ddof=1)) if n > 1 else nan)


def paired_difference(values: Mapping[Pair, float], baseline: Mapping[Pair, float]) -> Difference:
    """Return statistics of value minus baseline over the keys that both have.

    The interval is mean +- t std / sqrt(n), with t the 97.5 % point of Student's distribution with n - 1 degrees of
    freedom. Pairing removes the effect of a seed that is the same on both methods.

    Example:
        >>> paired_difference({("0",): 3.0, ("1",): 5.0}, {("0",): 2.0, ("1",): 3.0, ("2",): 9.0}).mean
        1.5
    """
    found = statistic(value - baseline[pair] for pair, value in values.items() if pair in baseline)
    if found.n < 2:
        return Difference(found.n, found.mean, nan, nan, nan)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, found.n - 1)) * found.std / sqrt(found.n)
    return Difference(found.n, found.mean, found.std, found.mean - half, found.mean + half)


def compare(
    runs: Sequence[FinishedRun],
    unit: str,
    *,
    keys: Sequence[str] | None = None,
    baseline: str | None = None,
    budgets: int = 20,
) -> Comparison:
    """Group runs and compare the groups exit by exit and along the budget.

    For the budgeted part the geometric policy is solved for each budget on a run's validation images (`calibrate`) and
    measured on its test images. The budgets are the same for all runs: evenly spaced from the most expensive first exit
    to the cheapest last exit.

    There must be at least one run, read with costs in the unit. The keys are those of `group_runs`; the baseline is the
    label of a group, by default "plain" if there is such a group, else the first.

    Raises:
        UserError: if the runs were not tested on the same images, a group has a seed twice, or no group has the label
            of the baseline.
    """
    check_same_images(runs)
    found, notes = _groups(runs, keys)
    groups = _baseline_first(found, baseline)
    for group in groups[1:]:
        if not group.runs.keys() & groups[0].runs.keys():
            notes.append(f"No run of {group.label} has a partner of the same seed in {groups[0].label}.")
    at_exits = _points(groups, {run.folder: _at_exits(run) for run in runs})

    # What validation images cost where all exits are used, as the papers count.
    costs = {
        run: costs_of_images(run.costs, run.validation)
        for run in runs
        if run.validation is not None and run.test.num_exits > 1
    }
    if left_out := [str(run.folder) for run in runs if run not in costs]:
        notes.append(f"Not compared under budgets, without validation scores or with only one exit: {_list(left_out)}.")
    grid = common_budgets([cost.means for cost in costs.values()], budgets)
    if costs and not len(grid):
        notes.append("No budget suits all runs: the first exit of one costs more than the last exit of another.")
    at_budgets = _points(groups, {run.folder: _at_budgets(run, cost, grid, unit) for run, cost in costs.items()})
    return Comparison(groups, unit, at_exits, at_budgets, tuple(notes))


def check_same_images(runs: Sequence[FinishedRun]) -> None:
    """Raise a UserError unless all runs were tested on the same images, judged by names and labels."""
    first = runs[0]
    for run in runs[1:]:
        between = f"{first.folder} and {run.folder} cannot be compared: one was tested on"
        one, other = first.options.get("data.name"), run.options.get("data.name")
        if one != other:
            raise UserError(f"{between} {one}, the other on {other}.")
        one_count, count = first.test.num_images, run.test.num_images
        if one_count != count:
            raise UserError(f"{between} {one_count} images, the other on {count}.")
        if not np.array_equal(first.test.labels, run.test.labels):
            raise UserError(f"{between} other images, or in another order, than the other: their labels differ.")


def common_budgets(costs: Sequence[npt.NDArray[np.float64]], count: int) -> npt.NDArray[np.float64]:
    """Return evenly spaced budgets between the first and last exit's cost of every network; empty if there are none.

    Example:
        >>> common_budgets([np.array([1.0, 5.0]), np.array([2.0, 3.0, 4.0])], 3)
        array([2., 3., 4.])
    """
    low = max((cost[0] for cost in costs), default=nan)
    high = min((cost[-1] for cost in costs), default=nan)
    return np.linspace(low, high, count) if low < high else np.empty(0)


Values = dict[str, float]  # of a run at one place: its cost, its top-1 accuracy ...


def _at_exits(run: FinishedRun) -> dict[Place, Values]:
    curve = anytime_curve(run.test, run.costs)
    names = ("cost", "top1", "top5", "calibration_error")
    return {k + 1: {name: float(getattr(curve, name)[k]) for name in names} for k in range(len(curve.cost))}


def _at_budgets(run: FinishedRun, costs: ImageCosts, budgets: Iterable[float], unit: str) -> dict[Place, Values]:
    assert run.validation is not None
    values: dict[Place, Values] = {}
    for budget in map(float, budgets):
        policy = calibrate(run.validation, costs, budget, unit=unit, alternatives=False).policy
        outcome = evaluate_policy(policy, run.test, run.costs)
        values[budget] = {"cost": outcome.mean_cost, "top1": outcome.accuracy}
    return values


def _points(groups: Sequence[Group], of_run: Mapping[Path, Mapping[Place, Values]]) -> tuple[Point, ...]:
    """Return the statistics of each group at each place for which a run of the group has values."""
    points = []
    for group in groups:
        runs, others = (
            {pair: of_run[run.folder] for pair, run in of.runs.items() if run.folder in of_run}
            for of in (group, groups[0])
        )
        for place in sorted({place for values in runs.values() for place in values}):
            here = {pair: values[place] for pair, values in runs.items() if place in values}
            there = {pair: values[place]["top1"] for pair, values in others.items() if place in values}
            statistics = {name: statistic(v[name] for v in here.values()) for name in next(iter(here.values()))}
            difference = None
            if group is not groups[0]:
                difference = paired_difference({pair: values["top1"] for pair, values in here.items()}, there)
                # Of few images all pairs can be equal, up to rounding; this does not show how much seeds can differ.
                varies = difference.std > 1e-12
                low, high = (max(difference.low, -1.0), min(difference.high, 1.0)) if varies else (nan, nan)
                difference = replace(difference, low=low, high=high)
            points.append(Point(group.label, place, difference=difference, **statistics))
    return tuple(points)


def _groups(runs: Sequence[FinishedRun], keys: Sequence[str] | None) -> tuple[list[Group], list[str]]:
    """Return the groups, and a note if options were pooled."""
    grouping = group_runs([run.options for run in runs], keys)
    notes = []
    if grouping.pooled:
        notes.append(f"Runs are pooled that differ in {_list(grouping.pooled)}.")
    # If the seeds within each group differ, the seed alone pairs runs: only one method may have a pooled option.
    alone = all(len({runs[number].seed for number in members}) == len(members) for members in grouping.members)
    paired_by = () if alone else grouping.pooled
    groups = []
    for label, members, details in zip(grouping.labels, grouping.members, grouping.details, strict=True):
        by_pair: dict[Pair, FinishedRun] = {}
        for run in (runs[number] for number in members):
            pair = (run.seed, *(run.options.get(option) for option in paired_by))
            if pair in by_pair:
                # A repetition is not a new sample: n would be too large, and the standard deviation too small.
                raise UserError(
                    f"{by_pair[pair].folder} and {run.folder} are both seed {run.seed} of the group {label!r}; a seed "
                    "counts once, so leave one of them out."
                )
            by_pair[pair] = run
        groups.append(Group(label, by_pair, details))
    return groups, notes


def _baseline_first(groups: Sequence[Group], baseline: str | None) -> tuple[Group, ...]:
    labels = [group.label for group in groups]
    if baseline is not None and baseline not in labels:
        raise unknown_name("group", baseline, labels)
    wanted = baseline or (BASELINE if BASELINE in labels else labels[0])
    return tuple(sorted(groups, key=lambda group: group.label != wanted))


def _list(names: Sequence[str], longest: int = 5) -> str:
    more = f" and {len(names) - longest} more" if len(names) > longest else ""
    return ", ".join(names[:longest]) + more
