"""What the results say of heads on a frozen backbone is what their files say."""

from tests.results.readme import Rows, check_section, column, rows

NAME = "Heads on a frozen ResNet-56"
FOLDER = "heads_resnet56_cifar10"
TECHNIQUES = ("plain", "isc", "ofa", "isc_ofa", "survivors")
SHOWN = 3  # the budget of the last column
WITHOUT_FILE = [
    *("n=5 seeds each", "(5,000)", "with 95 % t-intervals", "The features of the 50,000 training images"),
    *(
        "took 8 to 47 seconds on one core",
        "(mean 21)",
        "Batch 64,",
        "learning rate 0.1, one epoch",
        "PyTorch 2.14.1",
        "ResNet-56",
    ),
    "costs** a third of a point to 0.7 at the exits that learn from it (temperature 3, gamma 0.3;",
    "a ResNet-44 alone has 93 %",
]


def of(table: str, group: str) -> Rows:
    return [row for row in rows(f"{FOLDER}/{table}.csv") if row["group"] == group]


def cells(group: str) -> list[str]:
    """The cells of a technique: its accuracy, or its difference to plain with the interval if it varies."""
    found = []
    for row in [*of("exits", group), of("budgets", group)[SHOWN]]:
        if group == "plain":
            found.append(f"{float(row['top1_percent_mean']):.2f}")
            continue
        mean, spread = float(row["top1_difference_mean"]), float(row["top1_difference_std"])
        interval = f" [{float(row['top1_difference_low95']):+.2f}, {float(row['top1_difference_high95']):+.2f}]"
        found.append(f"{mean:+.2f}{interval if spread > 0 else ''}")
    return found


def test_the_section_says_what_its_files_say() -> None:
    table = [f"| `{group}` | {' | '.join(cells(group))} |" for group in TECHNIQUES]
    third = of("exits", "plain")[2]
    sentences = [f"the third exit reaches {float(third['top1_percent_mean']):.0f} % at the cost"]
    check_section(NAME, sentences, table, WITHOUT_FILE)
    costs = column(of("exits", "plain"), "cost_macs") / 1e6
    assert costs.round().tolist() == [33, 61, 92, 125]
    assert f"{float(of('budgets', 'plain')[SHOWN]['budget_macs']) / 1e6:.1f}" == "88.7"
    assert {row["n"] for row in rows(f"{FOLDER}/exits.csv")} == {"5"}


def test_the_signs_are_as_the_sentences_say() -> None:
    collaboration = column(of("exits", "isc"), "top1_difference_mean")[1:]
    assert (collaboration > 0).all()
    distilled = column(of("exits", "ofa"), "top1_difference_mean")[:3]
    assert (distilled > -0.75).all()
    assert (distilled < -0.3).all()
    survivors = column(of("budgets", "survivors"), "top1_difference_mean")
    assert 0.05 < survivors.mean() < 0.2
