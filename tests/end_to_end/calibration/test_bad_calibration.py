"""What a user can do wrong with ranet calibrate and its policies: one sentence, a status, and nothing written."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ranet.calibration import ExitPolicy
from ranet.inference import measure_latency
from ranet.models import create_network
from ranet.training import load_trained
from tests.end_to_end.calibration.calibrations import calibrate, train_network
from tests.end_to_end.commands import content, ranet


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained network of three exits, policies, latency profiles and score files, good and bad."""
    folder = tmp_path_factory.mktemp("files")
    train_network(folder)
    network = load_trained(folder / "run").network
    calibrate("checkpoint=run", "budget=60%", "run=calibration", folder=folder)
    (folder / "folder").mkdir()

    quick = {"backend": "torch", "min_run_time": 0.001}
    measure_latency(network, **quick).save(folder / "latency.json")
    (folder / "cut.json").write_text((folder / "latency.json").read_text()[:-50])
    (folder / "old.json").write_text((folder / "latency.json").read_text().replace('"version": 2', '"version": 1'))
    other = create_network("msdnet_tiny", blocks=3)
    measure_latency(other, **quick).save(folder / "of_another_network.json")
    measure_latency(create_network("msdnet_tiny"), **quick).save(folder / "five_exits.json")

    rng = np.random.default_rng(0)
    labels, logits = rng.integers(10, size=60), rng.normal(size=(3, 60, 10)).astype(np.float32)
    confidence = 1 / (1 + np.exp(-logits.max(-1)))
    bad = logits.copy()
    bad[1, 3, 5] = np.nan
    for name, arrays in {
        "good": {"logits": logits, "labels": labels},
        "two_exits": {"logits": logits[:2], "labels": labels},
        "nan": {"logits": bad, "labels": labels},
        "out_of_range": {"logits": logits, "labels": labels + 5},
        "nan_labels": {"confidence": confidence, "prediction": logits.argmax(-1), "labels": labels + [np.nan] * 60},
        "negative": {"confidence": confidence, "prediction": logits.argmax(-1), "labels": labels - 5},
        "half_right": {"confidence": confidence, "correct": confidence},
        "few_labels": {"logits": logits, "labels": labels[:50]},
        "unlabelled": {"logits": logits},
        "bare": {"confidence": confidence, "correct": logits.argmax(-1) == labels},
        "probabilities": {"logits": np.full((3, 60, 10), 0.1), "labels": labels},
        "empty": {"logits": logits[:, :0], "labels": labels[:0]},
        "other": {"weights": labels},
    }.items():
        np.savez(folder / f"{name}.npz", **arrays)
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:2000])

    text = (folder / "calibration" / "policy.json").read_text()
    policy = json.loads(text)
    (folder / "cut_policy.json").write_text(text[:-100])
    (folder / "changed.json").write_text(text.replace('"score": "confidence"', '"score": "certainty"'))
    (folder / "newer.json").write_text(json.dumps({**policy, "version": 3}))
    metadata = {**policy["metadata"], "network": {"fingerprint": "0" * 16}}
    ExitPolicy(tuple(policy["thresholds"]), metadata=metadata).save(folder / "of_another.json")
    return folder


HUGE = "1" * 400
BUDGET = "calibrate checkpoint=run budget"
RISK = "calibrate cost=[1,2,3] scores=good.npz risk.eps=0.1"
MS = "calibrate checkpoint=run budget=60% unit=ms"
SCORES = "calibrate cost=[1,2,3] budget=2 scores"
CASES: dict[str, str] = {
    # what is to be calibrated, and for what
    "calibrate": "either checkpoint=RUN or scores=FILE.npz",
    "calibrate budget=2": "either checkpoint=RUN or scores=FILE.npz",
    "calibrate checkpoint=run scores=good.npz cost=[1,2,3] budget=2": "either checkpoint=RUN or scores=FILE.npz",
    "calibrate checkpoint=run": "one of budget=, risk.eps= and deadline= is needed",
    f"{BUDGET}=50% risk.eps=0.1": "only one of budget=, risk.eps= and deadline=, not budget and risk.eps",
    f"{BUDGET}=50% deadline=3": "not budget and deadline",
    f"{RISK} deadline=3": "not risk.eps and deadline",
    "calibrate checkpoint=run risk=0.1": "say the risk that is tolerated as risk.eps=",
    "calibrate checkpoint=run risk=null": "say the risk that is tolerated as risk.eps=",
    f"{BUDGET}=50% risk.delta=0.2": "risk.delta=0.2 has no effect without risk.eps=",
    "calibrate checkpoint=folder budget=50%": "The folder folder holds no checkpoint",
    "calibrate checkpoint=[run] budget=50%": "There is no run folder or checkpoint file",
    f"{RISK} unit=fraction": "unit=fraction applies only to budget=",
    "calibrate checkpoint=run budget=60% output=run/config.yaml": "exists and is not an exit policy",
    "calibrate checkpoint=run budget=60% output=latency.json": "exists and is not an exit policy",
    "evaluate checkpoint=run policy=calibration/policy.json unit=macs": "remove unit=",
    "evaluate checkpoint=run policy=calibration/policy.json images=folder cache=here": "remove cache=",
    "evaluate": "either checkpoint=RUN, or scores=FILE.npz with policy=FILE",
    "evaluate checkpoint=run scores=good.npz": "either checkpoint=RUN, or scores=FILE.npz",
    "evaluate scores=good.npz": "add policy=FILE",
    "evaluate scores=good.npz policy=calibration/policy.json images=folder": "images= goes with checkpoint=",
    "evaluate scores=two_exits.npz policy=calibration/policy.json": "is for 3 exits and the scores have 2",
    "evaluate checkpoint=run policy=folder": "is a folder; name one of the files in it",
    "calibrate checkpoint=run budget=[50%,60%] output=list.json": "2 policies need a folder",
    f"{SCORES}=probabilities.npz": "logits are probabilities",
    # budgets
    f"{BUDGET}=200": r"No policy has a mean cost of 200 macs; possible budgets are [\d,]+ macs .* to [\d,]+ macs",
    f"{BUDGET}=5%": "No policy has a mean cost of .*; possible budgets are",
    f"{BUDGET}=[50%,200]": "No policy has a mean cost of 200 macs",
    f"{BUDGET}=0.5": "for a share of the last exit's cost say budget=50%",
    f"{BUDGET}=70": "for a share of the last exit's cost say budget=70%",
    f"{BUDGET}=cheap": "budget=cheap must be a number such as 40e6, a share such as 50%, a list of them, or sweep",
    f"{BUDGET}=[]": "asks for nothing",
    f"{BUDGET}=150%": "A budget of 150% must be .* at most the whole cost of the last exit",
    f"{BUDGET}=50% unit=fraction": "remove unit=fraction",
    # what exits cost
    f"{BUDGET}=2 unit=flops": "Unknown unit 'flops'; known: fraction, macs, ms, paper_ops; or give the cost",
    f"{BUDGET}=2 cost=[1,2]": "one cumulative cost for each of the 3 exits",
    "calibrate scores=good.npz budget=2 cost=[3,2,1]": "each exit must cost more than the one before",
    "calibrate scores=good.npz budget=2 cost=[-1,2,3]": "finite and at least 0",
    "calibrate scores=good.npz budget=2 cost=[1,2,nan]": "finite and at least 0",
    "calibrate scores=good.npz budget=2 cost=[a,b,c]": "must be numbers",
    "calibrate scores=good.npz budget=2 cost=['1','2','3']": "must be numbers",
    f"calibrate scores=good.npz budget=2 cost=[1,2,{HUGE}]": "must be numbers",
    "calibrate scores=good.npz budget=2 cost=cheap": "must be a list",
    "calibrate scores=good.npz budget=2": "add cost=",
    "calibrate scores=good.npz budget=2 cost=[1,2]": "one cumulative cost for each of the 3 exits",
    "calibrate scores=good.npz budget=2 cost=[]": "one cumulative cost for each of the 3 exits",
    "calibrate scores=good.npz budget=0.5 cost=[1,2,3] unit=euros": "budget=0.5 is less than the 1 of the first exit",
    f"{BUDGET}=60% batch_size=2": "batch_size=2 has no effect without unit=ms or deadline=",
    f"{BUDGET}=60% latency=latency.json": "latency=latency.json has no effect without unit=ms or deadline=",
    f"{MS} batch_size=0": "batch_size=0 must be an integer of at least 1",
    f"{MS} batch_size=1.5": "batch_size=1.5 must be an integer of at least 1",
    f"{MS} threads=0": "threads=0 must be an integer of at least 1",
    f"{MS} threads=true": "threads=True must be an integer of at least 1",
    f"{MS} backend=tensorflow": "Unknown backend 'tensorflow'; known: auto, onnxruntime, openvino, torch",
    f"{MS} backend=opnvino": "Unknown backend 'opnvino'; did you mean openvino",
    f"{MS} precision=float16": "Unknown precision 'float16'; did you mean bfloat16 or float32",
    f"{MS} backend=torch device=cuda:99": "cannot be put on the device 'cuda:99'",
    f"{MS} device=banana": "There is no device 'banana'",
    f"{BUDGET}=60% backend=torch": "backend=torch has no effect without unit=ms or deadline=",
    f"{BUDGET}=60% precision=bfloat16": "precision=bfloat16 has no effect without unit=ms or deadline=",
    f"{BUDGET}=60% threads=1": "threads=1 has no effect without unit=ms or deadline=",
    f"{BUDGET}=60% device=cpu": "device=cpu has no effect without unit=ms or deadline=",
    f"{MS} batch_size=2 latency=latency.json": "The latency profile says its batch size; remove batch_size=",
    f"{MS} backend=auto latency=latency.json": "The latency profile says its backend; remove backend=",
    f"{MS} precision=float32 latency=latency.json": "The latency profile says its precision; remove precision=",
    f"{MS} threads=2 latency=latency.json": "The latency profile says its threads; remove threads=",
    f"{MS} device=cpu latency=latency.json": "The latency profile says its device; remove device=",
    f"{MS} latency=old.json": "'old.json' has version 1 and this ranet reads 2: measure it again",
    f"{MS} latency=latency.json data=digits data.image_size=48 data.eval_copies=1": "of 32 pixels .*; these have 48",
    "calibrate checkpoint=run budget=1e-6 unit=ms latency=latency.json": "is less than the .* of the first exit",
    f"{MS} latency=nowhere.json": "'nowhere.json' does not exist",
    f"{MS} latency=3": "The latency profile '3' does not exist",
    f"{MS} latency=folder": "'folder' is a folder",
    f"{MS} latency=cut.json": "'cut.json' is not valid JSON",
    f"{MS} latency=calibration/policy.json": "policy.json' is not a ranet latency profile",
    f"{MS} latency=five_exits.json": "is of 5 exits, the network has 3",
    f"{MS} latency=of_another_network.json": "is of another network",
    # deadlines
    "calibrate checkpoint=run deadline=1e-6 latency=latency.json": r"the smallest deadline that can be met is \d",
    "calibrate checkpoint=run deadline=soon": "deadline=soon must be a number",
    "calibrate checkpoint=run deadline=nan latency=latency.json": "must be a number of milliseconds, not nan",
    "calibrate checkpoint=run deadline=3 unit=macs": "A deadline is in milliseconds; remove unit=macs",
    "calibrate checkpoint=run deadline=3 score=margin": "remove score=",
    "calibrate checkpoint=run deadline=3 policy=optimal": "policy=optimal goes with a budget",
    # policies and risks
    f"{SCORES}=good.npz policy=geometrik": "Unknown policy 'geometrik'; did you mean geometric",
    f"{SCORES}=good.npz policy=null": "Unknown policy 'None'",
    f"{SCORES}=good.npz score=certainty": "Unknown score 'certainty'",
    f"{SCORES}=good.npz score=3": "Unknown score '3'",
    f"{SCORES}=good.npz policy=margin score=entropy": "policy=margin cannot compare score=entropy",
    f"{RISK} policy=optimal": "policy=optimal goes with a budget",
    f"{RISK} score=certainty": "Unknown score 'certainty'",
    f"{RISK} risk.of=acuracy": "Unknown risk.of 'acuracy'; did you mean accuracy",
    f"{RISK} risk.bound=hoefding": "Unknown risk.bound 'hoefding'; did you mean hoeffding_bentkus",
    f"{RISK} risk.bound=hoeffding_bentkus risk.delta=null": "bound=hoeffding_bentkus needs a delta",
    f"{RISK} risk.delta=2": "must lie between 0 and 1, not 2",
    f"{RISK} risk.delta=sure": "risk.delta=sure must be a number",
    "calibrate cost=[1,2,3] scores=good.npz risk.eps=0": "must lie between 0 and 1, not 0",
    "calibrate cost=[1,2,3] scores=good.npz risk.eps=little": "risk.eps=little must be a number",
    "calibrate cost=[1,2,3] scores=good.npz risk.eps=true": "risk.eps=True must be a number",
    "calibrate checkpoint=run risk.eps=0.001": "With 135 images and delta=0.1 the smallest eps is 0.022: ",
    "calibrate checkpoint=run risk.eps=0.001 risk.delta=null": "in expectation the smallest eps is 0.00736: ",
    # parts of the images
    f"{BUDGET}=60% temperature_share=1": "temperature_share=1 must be at least 0 and below 1",
    f"{BUDGET}=60% temperature_share=-0.1": "temperature_share=-0.1 must be at least 0",
    f"{BUDGET}=60% temperature_share=half": "temperature_share=half must be at least 0",
    f"{BUDGET}=60% temperature_share=1e-6": "leaves one of two parts empty",
    f"{BUDGET}=60% test=maybe": "test=maybe must be true or false",
    f"{BUDGET}=60% test=1": "test=1 must be true or false",
    f"{BUDGET}=60% test_scores=good.npz": "with a checkpoint, say test=true",
    # scores alone
    f"{SCORES}=good.npz test=true": "test_scores=FILE.npz alone is enough",
    f"{SCORES}=good.npz temperature_share=0.2": "temperature_share= goes with checkpoint=",
    f"{SCORES}=good.npz model=ranet_tiny": "model= goes with checkpoint=",
    f"{SCORES}=good.npz data=digits": "data= goes with checkpoint=",
    f"{SCORES}=good.npz cache=folder": "cache= goes with checkpoint=",
    f"{SCORES}=nowhere.npz": "There is no score file 'nowhere.npz'",
    f"{SCORES}=3": "There is no score file '3'",
    f"{SCORES}=folder": "'folder' cannot be read",
    f"{SCORES}=cut.npz": "'cut.npz' is not a file of exit scores",
    f"{SCORES}=latency.json": "'latency.json' is not a file of exit scores",
    f"{SCORES}=other.npz": "'other.npz' holds weights; a score file holds confidence",
    f"{SCORES}=nan.npz": "'nan.npz': The confidence is not a finite number for 1 of 60 images",
    f"{SCORES}=out_of_range.npz": r"Labels must lie in 0..9 .* not [\d]+..\d+",
    f"{SCORES}=nan_labels.npz": "'nan_labels.npz', labels must be class indices",
    f"{SCORES}=negative.npz": "'negative.npz', labels must be class indices",
    f"{SCORES}=half_right.npz": "'half_right.npz', correct must be true or false",
    f"{SCORES}=few_labels.npz": r"'few_labels.npz': Logits must be .* \(3, 60, 10\) and \(50,\)",
    f"{SCORES}=empty.npz": "There is nothing to score",
    f"{SCORES}=two_exits.npz": "one cumulative cost for each of the 2 exits",
    f"{SCORES}=good.npz test_scores=two_exits.npz": "The test scores have 2 exits and the others 3",
    f"{SCORES}=good.npz test_scores=nowhere.npz": "There is no score file 'nowhere.npz'",
    f"{SCORES}=bare.npz policy=margin": "These scores have no margins",
    f"{SCORES}=bare.npz policy=patience": "These scores have no predicted classes",
    f"{SCORES}=unlabelled.npz policy=optimal": "they are of images without labels",
    "calibrate cost=[1,2,3] scores=unlabelled.npz risk.eps=0.1": "score labelled images, or choose the risk dis",
    "calibrate cost=[1,2,3] scores=bare.npz risk.eps=0.1 risk.of=disagreement": "add them as prediction",
    # where results go
    f"{BUDGET}=60% output=folder": "output=folder is a folder; name the file in it, such as folder/policy.json",
    f"{BUDGET}=[60%,70%] output=cut.json": "output=cut.json names a file; 2 policies need a folder",
    f"{BUDGET}=60% output=cut.json/policy.json": "cut.json",
    f"{BUDGET}=60% run=run": "run holds the record of ranet train",
    # policies that are followed
    "evaluate checkpoint=run policy=nowhere.json": "'nowhere.json' does not exist",
    "evaluate checkpoint=run policy=3": "The policy file '3' does not exist",
    "evaluate checkpoint=run policy=latency.json": "'latency.json' is not a ranet exit policy",
    "evaluate checkpoint=run policy=cut_policy.json": "'cut_policy.json' is not valid JSON .*, perhaps it was cut off",
    "evaluate checkpoint=run policy=changed.json": "'changed.json' cannot be used .score must be 'confidence', ",
    "evaluate checkpoint=run policy=newer.json": r"was written by a newer ranet \(version 3; this one reads 2\)",
    "evaluate checkpoint=run policy=of_another.json": "The policy was solved for another network",
}


def test_thresholds_that_were_edited_are_followed_with_one_notice(files: Path, tmp_path: Path) -> None:
    policy = json.loads((files / "calibration" / "policy.json").read_text())
    (tmp_path / "edited.json").write_text(json.dumps({**policy, "thresholds": ["always", 0.5]}))
    outcome = ranet(
        "evaluate", f"scores={files / 'good.npz'}", "policy=edited.json", f"run={tmp_path / 'run'}", folder=tmp_path
    )
    assert outcome.status == 0, outcome.err
    said = [line for line in outcome.err.splitlines() if "edited.json" in line]
    (notice,) = said
    assert notice.startswith("ranet: The policy file 'edited.json' was changed after ranet wrote it (its checksum")
    assert re.search(r"leave at exit 1 % .* 100\.00", outcome.out)


@pytest.mark.parametrize(
    "line",
    # All take half a minute: every other one is tried with all tests.
    [pytest.param(line, marks=[pytest.mark.slow] if i % 2 else []) for i, line in enumerate(CASES)],
    ids=[line.replace(HUGE, "HUGE") for line in CASES],
)
def test_a_mistake_is_said_in_one_sentence_and_leaves_nothing(line: str, files: Path) -> None:
    before = content(files)
    outcome = ranet(*line.split(" "), folder=files)
    assert outcome.status == 1, outcome.err
    assert re.search(f"^ranet: .*{CASES[line]}", outcome.err)
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith((".\n", "?\n"))
    assert not outcome.out
    assert content(files) == before


def test_the_smallest_risk_that_is_named_can_be_promised(files: Path, tmp_path: Path) -> None:
    # With no loss among n images, the rate of losses is below 1 - (delta / 2) ** (1 / n), and 1 / (n + 1) on average.
    assert 0.0219 < 1 - 0.05 ** (1 / 135) < 0.022
    assert 0.00735 < 1 / 136 < 0.00736
    for options in (["risk.eps=0.022"], ["risk.eps=0.00736", "risk.delta=null"]):
        calibrate("checkpoint=run", *options, f"run={tmp_path}", folder=files)
