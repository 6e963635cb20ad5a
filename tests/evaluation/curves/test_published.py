from collections import Counter

import pytest

from ranet.errors import UserError
from ranet.evaluation import published_points


def test_all_published_points_are_there():
    counts = Counter((point.data, point.setting, point.network) for point in published_points())
    assert counts == {
        ("cifar10", "anytime", "RANet"): 8,
        ("cifar10", "anytime", "MSDNet"): 10,
        ("cifar100", "anytime", "RANet"): 8,
        ("cifar100", "anytime", "MSDNet"): 10,
        ("imagenet", "anytime", "RANet"): 8,
        ("imagenet", "anytime", "MSDNet"): 5,
        ("cifar10", "budgeted", "RANet"): 9,
        ("cifar10", "budgeted", "MSDNet"): 5,
        ("cifar100", "budgeted", "RANet"): 9,
        ("cifar100", "budgeted", "MSDNet"): 7,
        ("imagenet", "budgeted", "RANet"): 8,
        ("imagenet", "budgeted", "MSDNet"): 7,
    }


def test_costs_are_single_operations_and_rise():
    for data, smallest, largest in (("cifar10", 1e7, 2e8), ("cifar100", 1e7, 2e8), ("imagenet", 4e8, 4e9)):
        for setting in ("anytime", "budgeted"):
            points = published_points(data, setting)
            assert all(smallest < point.cost < largest and 60 < point.top1 < 95 for point in points)
            for network in ("RANet", "MSDNet"):
                costs = [point.cost for point in points if point.network == network]
                assert costs == sorted(costs)


def test_names_are_taken_as_people_write_them():
    assert published_points("CIFAR-10") == published_points("cifar10")
    assert published_points("ImageNet", "budgeted")[-1].top1 == 74.29


def test_unknown_names_are_named():
    with pytest.raises(UserError, match="data set with published points 'digits'"):
        published_points("digits")
    with pytest.raises(UserError, match="did you mean anytime"):
        published_points("cifar10", "anytimes")
