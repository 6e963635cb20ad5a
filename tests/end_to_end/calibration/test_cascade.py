"""ranet cascade: from score files, and from networks to a checkpoint that the other commands use."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import ranet
from ranet import ExitScores, load_policy
from ranet.calibration.solvers.cascades import Members, cascade_scores
from ranet.cli.inputs.candidates import Candidate, load_candidates, one_network
from ranet.images.canvas import Canvas
from ranet.images.preprocessing import Preprocessing
from ranet.models.adapted.named import create_classifier
from ranet.training.checkpoints import save_network
from tests.end_to_end.commands import Outcome
from tests.end_to_end.commands import ranet as command

COSTS = {"small": 41.0, "middle": 69.0, "large": 126.0}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the logits of three classifiers on the same images, the more expensive the better."""
    folder, rng = tmp_path_factory.mktemp("cascade"), np.random.default_rng(0)
    labels, hard = rng.integers(10, size=2000), rng.uniform(size=(2000, 1))
    for skill, name in zip((6, 8, 10), COSTS, strict=True):
        logits = rng.normal(size=(1, 2000, 10)) + skill * hard * np.eye(10)[labels]
        np.savez(folder / f"{name}.npz", logits=logits.astype(np.float32), labels=labels)
    (folder / "data").mkdir()
    return folder


FILES = "scores=[small.npz,middle.npz,large.npz]"
PRICES = "cost=[41,69,126]"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_score_files_give_a_frontier_and_a_policy(here: Path, tmp_path: Path) -> None:
    outcome = command("cascade", FILES, PRICES, "unit=M", "budget=60%", f"run={tmp_path / 'out'}", folder=here)
    assert outcome.status == 0, outcome.err
    scores = {name: ExitScores.load(here / f"{name}.npz", keep_logits=True) for name in COSTS}
    for row in table(tmp_path / "out" / "candidates.csv"):
        assert float(row["cost_M"]) == COSTS[row["network"]]
        assert float(row["accuracy_percent"]) == pytest.approx(100 * scores[row["network"]].correct.mean())
    frontier = table(tmp_path / "out" / "frontier.csv")
    assert any("(mean)" in row["members"] for row in frontier)
    policy = load_policy(tmp_path / "out" / "policy.json")
    names = policy.metadata["members"]
    which = tuple(list(COSTS).index(name) for name in names)
    combined = cascade_scores(list(scores.values()), Members(which, policy.metadata["combine"]))
    exits = policy.exits(combined)
    costs = np.cumsum([COSTS[name] for name in names])
    assert costs[exits].mean() == pytest.approx(policy.promise.cost)
    assert policy.promise.cost <= policy.promise.budget == pytest.approx(0.6 * 126)
    assert combined.correct_at(exits).mean() == policy.promise.accuracy  # type: ignore[union-attr]
    assert "As accurate as large" in outcome.out
    assert np.asarray(Image.open(tmp_path / "out" / "cascade.png").convert("L")).std() > 10, "an empty picture"


MISTAKES = {
    "cascade": "either candidates=[RUN,NAME:WEIGHTS,...], or scores=[FILE.npz,...]",
    "cascade scores=[small.npz] cost=[1]": "must be a list of two or more",
    f"cascade {FILES}": "add cost=[...] with a number for each of the 3",
    f"cascade {FILES} cost=[1,2]": "add cost=[...] with a number for each of the 3",
    f"cascade {FILES} cost=[1,2,-1]": "must be positive numbers",
    f"cascade {FILES} {PRICES} combine=sum": "Unknown combine 'sum'",
    f"cascade {FILES} {PRICES} most_members=1": "it must be 2 or more",
    f"cascade {FILES} {PRICES} budget=[1,2]": "must be one number such as 40e6",
    f"cascade {FILES} {PRICES} budget=sweep": "must be one number such as 40e6",
    f"cascade {FILES} {PRICES} batch_size=8": "batch_size= goes with candidates=",
    f"cascade scores=[small.npz,none.npz] {PRICES}": "add cost=[...]",
    "cascade scores=[small.npz,none.npz] cost=[1,2]": "There is no score file none.npz",
    "cascade candidates=[a,b]": "There is no run folder or checkpoint file a; or write NAME:WEIGHTS",
    "cascade candidates=[resnet18:w.pth,resnet50:w.pth]": "add data=cifar10 or another data set",
    "cascade candidates=[{network:a},b]": "must have the entries network and weights",
    "cascade candidates=[{network:a,weights:b,size:3},b]": "Unknown entry of a candidate 'size'",
    "cascade candidates=[data,small.npz] unit=joules": "Unknown unit 'joules'",
    "cascade candidates=[data,small.npz] batch_size=8": "batch_size=8 has no effect without unit=ms",
    "cascade candidates=[data,small.npz] cost=[1,2]": "cost= is for scores=",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_sentence(typed: str, here: Path) -> None:
    outcome = command(*typed.split(), folder=here)
    assert outcome.status == 1
    (line,) = outcome.err.strip().splitlines()
    assert MISTAKES[typed] in line


def test_other_images_are_refused_before_anything_is_written(here: Path, tmp_path: Path) -> None:
    scores = ExitScores.load(here / "small.npz")
    scores.subset(slice(0, 50)).save(tmp_path / "few.npz")
    outcome = command(
        *("cascade", f"scores=[{here / 'small.npz'},{tmp_path / 'few.npz'}]", "cost=[1,2]", "combine=last"),
        *("budget=50%", f"run={tmp_path / 'out'}"),
        folder=here,
    )
    assert outcome.status == 1
    assert "scored on different images" in outcome.err
    assert not (tmp_path / "out" / "policy.json").exists()


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the random weights of two networks."""
    folder = tmp_path_factory.mktemp("networks")
    for seed, name in enumerate(("msdnet_tiny", "ranet_tiny")):
        torch.manual_seed(seed)
        save_file(ranet.create_network(name).state_dict(), folder / f"{name}.safetensors")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["macs", "ms"])
def test_networks_become_a_checkpoint_that_other_commands_use(unit: str, networks: Path, tmp_path: Path) -> None:
    digits = ["data=digits", "data.train_copies=1", "data.eval_copies=1"]
    measured = ["backend=torch", "threads=1"] if unit == "ms" else []

    def run(verb: str, *options: str) -> Outcome:
        outcome = command(verb, *options, folder=networks)
        assert outcome.status == 0, outcome.err
        return outcome

    out = tmp_path / "out"
    candidates = ",".join(f"{name}:{name}.safetensors" for name in ("msdnet_tiny", "ranet_tiny"))
    run("cascade", f"candidates=[{candidates}]", *digits, *measured, f"unit={unit}", "budget=100%", f"run={out}")
    policy = load_policy(out / "policy.json")
    network = ranet.load_trained(out).network
    assert isinstance(network, ranet.Cascade)
    assert policy.num_exits == network.num_exits
    policy.require_network(policy.promise.fingerprint or "")
    seen = run("evaluate", f"checkpoint={out}", f"policy={out / 'policy.json'}", f"run={tmp_path / 'seen'}")
    assert "promised" in seen.out
    run("export", f"checkpoint={out}", f"policy={out / 'policy.json'}", f"output={tmp_path / 'engine'}")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "one.png")
    answers = [
        run("predict", of, f"images={tmp_path / 'one.png'}", f"output={tmp_path / name}", *more)
        and table(tmp_path / name)[0]
        for name, of, more in (
            ("torch.csv", f"checkpoint={out}", [f"policy={out / 'policy.json'}", "backend=torch"]),
            ("engine.csv", f"engine={tmp_path / 'engine'}", []),
        )
    ]
    assert answers[0]["exit"] == answers[1]["exit"]
    assert answers[0]["class_index"] == answers[1]["class_index"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two classes, of sizes as they come, and the weights of a network of torchvision, not trained."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 6)):
        for label, name in enumerate(("cats", "dogs")):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 128, (70 + 5 * i, 90, 3), dtype=np.uint8) + np.uint8(100 * label)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    torch.manual_seed(0)
    save_file(create_classifier("shufflenet_v2_x0_5", 2).state_dict(), folder / "weights.safetensors")
    return folder


WANTED = (
    Preprocessing(32, 37, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    Preprocessing((64, 48), (73, 55), (0.5,) * 3, (0.229, 0.224, 0.225), "bicubic"),
)
PICTURE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (100, 150, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def at_two_sizes(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Candidate], Path]:
    """One network at two image sizes as two candidates, and the folder of their cascade."""
    classifier = {"network": "shufflenet_v2_x0_5", "weights": str(photos / "weights.safetensors")}
    second = {"image_size": [64, 48], "interpolation": "bicubic", "mean": [0.5, 0.5, 0.5]}
    folder = tmp_path_factory.mktemp("cascade")
    overrides = [
        *("data=imagefolder", f"data.root={photos}", "data.validation_from=test", "data.num_workers=0", "split=test"),
        f"cache={folder / 'cache'}",
    ]
    with initialize_config_module("ranet.conf", version_base="1.3"):
        config = compose("cascade", overrides)
    config.candidates = [{**classifier, "image_size": 32}, {**classifier, **second}]
    members = load_candidates(config)
    network, recipe = one_network(members, "mean")
    save_network(network, recipe, folder / "network.ckpt")
    scores = cascade_scores([member.scores for member in members], Members((0, 1), "mean"))
    costs = ranet.measure_costs(network)
    solved = ranet.calibrate(scores, costs.table("macs"), 2 * costs.macs_per_exit[-1], alternatives=False)
    solved.policy.save(folder / "policy.json")  # for a budget of all images at both members
    return members, folder


def probabilities(members: list[Candidate]) -> list[Tensor]:
    """Return what each member answers about the picture."""
    with torch.no_grad():
        return [
            member.trained.network(torch.from_numpy(prepare(PICTURE))[None])[-1].softmax(1)  # type: ignore[union-attr]
            for member, prepare in zip(members, WANTED, strict=True)
        ]


def test_one_network_at_two_sizes_is_two_members_that_read_one_picture(
    at_two_sizes: tuple[list[Candidate], Path],
) -> None:
    members, folder = at_two_sizes
    assert [member.name for member in members] == ["shufflenet_v2_x0_5 at 32", "shufflenet_v2_x0_5 at [64, 48]"]
    assert tuple(member.data.facts.preprocessing for member in members if member.data) == WANTED
    assert members[0].costs.stages[0, 0] < members[1].costs.stages[0, 0]
    one, other = probabilities(members)
    with torch.no_grad():
        answers = ranet.load_trained(folder).network(torch.from_numpy(Canvas(WANTED)(PICTURE))[None])
    torch.testing.assert_close(answers[0].softmax(1), one)
    torch.testing.assert_close(answers[1].softmax(1), (one + other) / 2)


@pytest.mark.slow
def test_the_other_commands_prepare_pictures_for_a_cascade_of_two_sizes(
    at_two_sizes: tuple[list[Candidate], Path], tmp_path: Path
) -> None:
    members, folder = at_two_sizes
    PICTURE.save(tmp_path / "one.png")
    both = [f"checkpoint={folder}", f"policy={folder / 'policy.json'}"]
    for verb, *options in (
        ["predict", *both, "images=one.png", "output=torch.csv", "backend=torch"],
        ["export", *both, "output=engine"],
        ["predict", "engine=engine", "images=one.png", "output=engine.csv"],
        ["evaluate", *both, "run=seen"],
    ):
        outcome = command(verb, *options, folder=tmp_path)
        assert outcome.status == 0, outcome.err
    probability = float(sum(probabilities(members)).max() / 2)  # type: ignore[union-attr]
    for file in ("torch.csv", "engine.csv"):
        (row,) = table(tmp_path / file)
        assert float(row["probability"]) == pytest.approx(probability, abs=1e-4)
