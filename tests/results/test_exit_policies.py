"""What the results say of exit policies is what their files say."""

import numpy as np

from tests.results.readme import Rows, check_section, column, rows, span

NAME = "What exit policies promise, and keep"
NETWORKS = (
    "reference_msdnet_cifar10",
    "msdnet_small_cifar10_cpu",
    "ranet_small_cifar10_cpu",
    "ranet_small_cifar100_cpu",
)
MSDNETS, RANETS = NETWORKS[:2], NETWORKS[2:]
FREE = "optimal, folds=0"
GUARANTEES = r"^\| `\w+` \| [\d.]+ \| [\d.]+ M, "  # of which there is no file; see test_small_networks.py
WITHOUT_FILE = [
    *("10,000 test images", "(5,000 validation images, seed 0, n=1 each)", "MSDNet of 5 exits", "for 5 epochs, of"),
    *("a paired bootstrap interval (95 %) over the test images excludes 0.", "With 5,000 validation images"),
    *("with a probability of 0.9", "of 2,000 resamples with seed 0.", "PyTorch 2.15.0", "10 exits x 50,000 images"),
    "one budget 41 ms (`geometric`), 46 ms (`one_threshold`), 52 ms (`patience`), 1.49 s (`optimal`); a curve of 100 "
    "budgets 0.67 s, 0.46 s, 0.38 s and 4.9 s; a guarantee 55 ms. The papers' sweep of 39 ratios over 5 exits and "
    "5,000 + 10,000 images takes 4.3 ms",
]


def of_policy(network: str, policy: str) -> Rows:
    return [row for row in rows(f"exit_policies/{network}.csv") if row["policy"] == policy]


def policies() -> list[str]:
    return list(dict.fromkeys(row["policy"] for row in rows(f"exit_policies/{NETWORKS[0]}.csv")))


def off(network: str, policy: str) -> np.ndarray:
    """How far the cost on test is from each budget, in percent."""
    return np.abs(column(of_policy(network, policy), "test_cost_off_percent"))


def against(network: str, policy: str) -> tuple[np.ndarray, int, int]:
    """Differences to the papers' rule; at how many budgets the interval is above 0, and below."""
    table = of_policy(network, policy)
    low, high = (column(table, f"against_geometric_points_{end}") for end in ("low", "high"))
    return column(table, "against_geometric_points"), int((low > 0).sum()), int((high < 0).sum())


def all_against(policy: str, networks: tuple[str, ...] = NETWORKS) -> tuple[int, int, int]:
    """Better, worse and all budgets of some networks."""
    found = [against(network, policy) for network in networks]
    return sum(each[1] for each in found), sum(each[2] for each in found), sum(len(each[0]) for each in found)


def gain(network: str, split: str) -> float:
    """What free thresholds gain on the mean of the budgets."""
    name = f"{split}_accuracy_percent"
    return float((column(of_policy(network, FREE), name) - column(of_policy(network, "geometric"), name)).mean())


def table_rows() -> list[str]:
    found = []
    for network in NETWORKS:
        for policy in policies():
            points, better, worse = against(network, policy)
            mean = column(of_policy(network, policy), "test_accuracy_percent").mean()
            found.append(
                f"| {network} | `{policy}` | {off(network, policy).max():.2f} % | {mean:.2f} | {points.mean():+.2f} | "
                f"{points.min():+.2f} to {points.max():+.2f} | {better} / {worse} |"
            )
    return found


def sentences() -> list[str]:
    budgets = len(of_policy(NETWORKS[0], "geometric"))
    kept = max(off(network, policy).max() for network in NETWORKS for policy in ("geometric", "optimal"))
    on_validation, on_test = (np.array([gain(n, split) for n in NETWORKS]) for split in ("validation", "test"))
    free, margin, entropy = (all_against(policy) for policy in (FREE, "margin", "entropy"))
    best_margin = max(against(network, "margin")[0].max() for network in NETWORKS)
    won, lost = all_against("patience", RANETS), all_against("patience", MSDNETS)
    return [
        f"for {budgets} budgets between the cost",
        f"at how many of the {budgets} budgets",
        f"within {kept:.1f} % of it for the papers' rule and for `optimal`. The 2 % that were aimed at are missed by "
        "`one_threshold` alone, at one budget of one network",
        f"gain {span(on_validation)} points on validation and {span(on_test, '+.2f')} on test, where they are "
        f"significantly better at {free[0]} of {free[2]} budgets and worse at {free[1]}",
        f"does better than the largest probability at {margin[0]} of {margin[2]} budgets (by up to {best_margin:.2f} "
        f"points) and worse at {margin[1]}; the entropy does worse at {entropy[1]}",
        f"(better at {won[0]} of {won[2]} budgets on the RANets), and loses on the MSDNets (worse at {lost[1]} of "
        f"{lost[2]})",
    ]


def test_the_section_says_what_its_files_say() -> None:
    check_section(NAME, sentences(), table_rows(), WITHOUT_FILE, GUARANTEES)


def test_the_budget_is_missed_by_what_is_said() -> None:
    missed = {
        (network, policy): count
        for network in NETWORKS
        for policy in policies()
        if (count := int((off(network, policy) > 2).sum()))
    }
    assert missed == {(NETWORKS[0], "one_threshold"): 1}


def test_optimal_is_nowhere_significantly_worse() -> None:
    assert all_against("optimal")[1] == 0
