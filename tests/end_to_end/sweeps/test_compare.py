"""``ranet compare``: from the folders of finished runs to tables and a figure."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ranet.cli.command import folders_as_option
from ranet.errors import UserError
from ranet.evaluation.comparison.finished_runs import flat_options
from ranet.evaluation.comparison.grouping import NO_METHOD
from tests.end_to_end.commands import SHORT, SMALL, Outcome, content, ranet

WriteRun = Callable[..., Path]
FILES = {"exits.csv", "budgets.csv", "runs.csv", "comparison.md", "comparison.png", "config.yaml", "environment.json"}
FEW = "budgets=2"


@pytest.fixture(scope="module")
def runs(write_run: WriteRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders of runs with names that a shell and Hydra could misread, and runs that do not belong to them."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        write_run(folder / "plain, it's [a] name" / str(seed), seed, **{"technique.name": "plain"})
        write_run(folder / "technique=ge" / str(seed), seed, **{"technique.name": "ge"})
    write_run(folder / "again", 1, **{"technique.name": "ge"})
    write_run(folder / "cifar", data=None, **{"data.name": "cifar10"})
    for name in ("begun", "partly/0"):
        begun = write_run(folder / name)
        (begun / "evaluation" / "report.json").unlink()
    write_run(folder / "partly" / "1", 1)
    damaged = write_run(folder / "damaged")
    (damaged / "evaluation" / "scores_test.npz").write_bytes(b"no scores")
    (folder / "empty").mkdir()
    return folder


def compare(*arguments: str, folder: Path) -> Outcome:
    outcome = ranet("compare", FEW, *arguments, folder=folder)
    assert outcome.status == 0, outcome.err
    assert not outcome.err
    return outcome


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "words",
    [
        ["plain, it's [a] name", "technique=ge"],
        ["technique=ge", "./plain, it's [a] name/", "technique=ge/0"],  # once, though found twice
        [r"runs=['plain, it\'s [a] name','technique=ge']"],
    ],
)
def test_folders_are_taken_as_they_are_named(words: list[str], runs: Path, tmp_path: Path) -> None:
    outcome = compare(*words, f"output={tmp_path / 'output'}", folder=runs)
    assert {file.name for file in (tmp_path / "output").iterdir()} == FILES
    rows = table(tmp_path / "output" / "runs.csv")
    assert sorted((row["group"], row["seed"]) for row in rows) == [
        (group, seed) for group in ("ge", "plain") for seed in ("0", "1")
    ]
    assert {row["git_revision"] for row in rows} == {"0123abc"}
    printed = " ".join(outcome.out.split())  # titles are broken to the width of their tables
    assert "Each exit: difference to plain" in printed
    assert "Along the budget: difference to plain" in printed
    exits = table(tmp_path / "output" / "exits.csv")
    assert {row["n"] for row in exits} == {"2"}
    assert {row["pairs"] for row in exits} == {"", "2"}
    assert f"{float(exits[0]['top1_percent_mean']):.2f} ± {float(exits[0]['top1_percent_std']):.2f}" in outcome.out
    assert len(table(tmp_path / "output" / "budgets.csv")) == 4


def test_folders_among_options() -> None:
    words = ["output=a", "runs/b", "unit=macs", "--cfg", "job"]
    assert folders_as_option(words, "runs") == ["runs=['runs/b']", "output=a", "unit=macs", "--cfg", "job"]
    assert folders_as_option(["unit=macs", "--help"], "runs") == ["unit=macs", "--help"]
    with pytest.raises(UserError, match="not both"):
        folders_as_option(["a", "runs=[b]"], "runs")


def test_by_default_the_results_lie_in_a_folder_of_their_own(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    for _ in range(2):  # the second search meets the results of the first
        outcome = compare("runs", "unit=macs", folder=tmp_path)
    (folder, *_) = (tmp_path / "runs" / "compare").iterdir()
    assert {file.name for file in folder.iterdir()} == FILES
    assert table(folder / "exits.csv")[0]["cost_macs"] == "1000000"
    assert "ranet_tiny (n=1)" in outcome.out


def test_groups_baseline_and_what_was_left_out_are_said(runs: Path, tmp_path: Path) -> None:
    words = ["technique=ge", "plain, it's [a] name", "partly", "groups=[model.name]", f"output={tmp_path}"]
    outcome = compare(*words, folder=runs)
    note = "left out: continue it (resume=true), or ranet evaluate checkpoint=partly/0 run=partly/0/evaluation."
    page = (tmp_path / "comparison.md").read_text()
    for said in (outcome.out, page):
        assert note in said
        assert "Runs are pooled that differ in technique.name." in said
    assert "| ranet_tiny | 5 | 0 1 | - |" in page
    compare("technique=ge", "plain, it's [a] name", "baseline=ge", f"output={tmp_path}", folder=runs)
    assert {row["difference_to"] for row in table(tmp_path / "exits.csv")} == {"", "ge"}


@pytest.mark.slow
def test_a_sweep_that_ranet_trained(tmp_path: Path) -> None:
    options = ["data.train_limit=32", "seed=4", "sweep=my sweep"]
    assert ranet("train", "-m", *SHORT, *SMALL, *options, folder=tmp_path).status == 0
    compare("my sweep", "output=output", folder=tmp_path)
    (run,) = table(tmp_path / "output" / "runs.csv")
    assert run["seed"] == "4"
    theirs = table(tmp_path / run["run"] / "evaluation" / "exits.csv")
    for ours, of_run in zip(table(tmp_path / "output" / "exits.csv"), theirs, strict=True):
        assert ours["top1_percent_std"] == "nan"
        assert ours["calibration_error_mean"] == of_run["calibration_error"]
        for name in ("top1_percent", "top5_percent"):
            assert float(ours[f"{name}_mean"]) == pytest.approx(float(of_run[name]))
        assert ours["cost_macs"] == of_run["cost_macs"]


BAD: dict[str, tuple[int, str]] = {
    "nowhere": (1, "There is no folder nowhere"),
    "empty": (1, "There is no finished run in empty"),
    "begun": (1, "no finished run in begun; begun is not evaluated .*, or ranet evaluate checkpoint=begun"),
    "technique=ge again": (1, "technique=ge/1 and again are both seed 1 of the group 'ge'; a seed counts once"),
    "technique=ge cifar": (1, "cannot be compared: one was tested on digits, the other on cifar10"),
    "technique=ge damaged": (1, "evaluation in damaged/evaluation cannot be used: .*ranet evaluate checkpoint=damaged"),
    "technique=ge baseline=gee": (1, "Unknown group 'gee'; did you mean ge"),
    "technique=ge groups=[technique.nam]": (1, "Unknown option to group by 'technique.nam'; did you mean technique"),
    "technique=ge output=again": (1, "again holds the record of ranet train; choose another folder for the results"),
    "technique=ge budgets=1": (1, "budgets=1 must be an integer of at least 2"),
    "technique=ge unit=flops": (1, "Unknown unit 'flops'"),
    "technique=ge runs=[empty]": (1, r"either alone or as runs=\[FOLDER,...\], not both"),
    "technique=ge budget=3": (2, "Unknown option 'budget'; did you mean budgets"),
    "technique=ge output=/proc/comparison": (1, "/proc"),
    "unit=macs": (2, "runs is needed"),
}  # fmt: skip


@pytest.mark.parametrize("line", BAD)
def test_a_mistake_is_said_in_one_sentence_and_leaves_nothing(line: str, runs: Path) -> None:
    status, message = BAD[line]
    before = sorted(runs.rglob("*")), content(runs)
    outcome = ranet("compare", *line.split(" "), folder=runs)
    assert outcome.status == status, outcome.err
    assert re.search(f"^ranet: .*{message}", outcome.err), outcome.err
    assert outcome.err.count("\n") == 1
    assert (sorted(runs.rglob("*")), content(runs)) == before


def test_help_explains_every_option(tmp_path: Path) -> None:
    config = OmegaConf.load(Path(__file__).parents[3] / "conf" / "compare.yaml")
    outcome = ranet("compare", "--help", folder=tmp_path)
    for name in set(config) - {"defaults", "hydra"}:
        assert re.search(rf"^# .*\n{name}: ", outcome.out, flags=re.MULTILINE), name


def test_what_makes_no_method_are_options_that_there_are(tmp_path: Path) -> None:
    outcome = ranet("train", "data=cifar10", "--cfg", "job", folder=tmp_path)
    config = OmegaConf.to_container(OmegaConf.create(outcome.out))
    options = flat_options(config)  # type: ignore[arg-type]
    for name in NO_METHOD:
        assert any(option == name or option.startswith(f"{name}.") for option in options), name
