"""The points that the papers publish, for figures."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ranet.errors import require_known, unknown_name

SETTINGS = ("anytime", "budgeted")


@dataclass(frozen=True)
class PublishedPoint:
    """One point of a figure in Huang et al. (ICLR 2018) or Yang et al. (CVPR 2020).

    Read off the figure, to about 0.05 percent points of accuracy and 0.5 % of cost. Budgeted points lie on the upper
    envelope of the paper's two or three budgeted networks.

    Attributes:
        data: "cifar10", "cifar100" or "imagenet".
        setting: "anytime" or "budgeted".
        network: "RANet" or "MSDNet".
        cost: cost of an image in paper ops; the mean cost if budgeted.
        top1: top-1 accuracy in percent.
    """

    data: str
    setting: str
    network: str
    cost: float
    top1: float


def published_points(data: str | None = None, setting: str | None = None) -> tuple[PublishedPoint, ...]:
    """Return the published points, of one data set and one setting if given, by increasing cost for each network.

    Raises:
        UserError: if there are no published points for the data set or setting.

    Example:
        >>> published_points("CIFAR-10", "anytime")[0]
        PublishedPoint(data='cifar10', setting='anytime', network='RANet', cost=15800000.0, top1=91.34)
    """
    points = _all_points()
    name = None if data is None else data.lower().replace("-", "").replace("_", "")
    known = {point.data for point in points}
    if name is not None and name not in known:
        raise unknown_name("data set with published points", str(data), known)
    if setting is not None:
        require_known("setting of published points", setting, SETTINGS)
    return tuple(point for point in points if name in (None, point.data) and setting in (None, point.setting))


@cache
def _all_points() -> tuple[PublishedPoint, ...]:
    text = files("ranet.evaluation.curves").joinpath("published_points.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedPoint(row["data"], row["setting"], row["network"], float(row["cost"]), float(row["top1"]))
        for row in csv.DictReader(text.splitlines())
    )
