"""Help and mistakes are answered before PyTorch is imported, which takes seconds: one process in which it cannot be."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import ranet
from ranet.cli.verbs import VERBS

# Each command line, its status, and what the last line on standard error (or on standard output, for 0) holds.
CASES: dict[str, tuple[int, str]] = {
    "--version": (0, f"^ranet {re.escape(version('ranet'))}$"),
    "train --version": (0, "^ranet "),
    "--help": (0, "ranet --version"),
    **{f"{verb} --help": (0, f"ranet {verb} --cfg job shows all options") for verb in VERBS},
    "train --cfg job": (0, "unit: macs"),
    "networks pattern=*tiny": (0, "ranet_tiny"),
    # names
    "check data=photos": (2, "Unknown data 'photos'"),
    "trian": (2, "Unknown verb 'trian'; did you mean train"),
    "train modle=ranet_tiny": (2, "Unknown option 'modle'; did you mean model"),
    "train optim.lrr=1": (2, "Unknown option of optim 'lrr'; known: .*optimizer"),
    "train model=ranet_tinyy": (2, "Unknown model 'ranet_tinyy'; did you mean ranet_tiny"),
    "train model.growht=3": (2, "Unknown option of model 'growht'; did you mean growth"),
    "train +experiment=demmo": (2, "Unknown experiment 'demmo'; did you mean demo"),
    "train data=cifar": (2, "Unknown data 'cifar'; did you mean cifar"),
    "calibrate checkpoint=run bugdet=50%": (2, "Unknown option 'bugdet'; did you mean budget"),
    "evaluate checkpont=run": (2, "Unknown option 'checkpont'; did you mean checkpoint"),
    "export polcy=p.json": (2, "Unknown option 'polcy'; did you mean policy"),
    "predict image=new": (2, "Unknown option 'image'; did you mean images"),
    "bench batch_size=1": (2, "Unknown option 'batch_size'; did you mean batch_sizes"),
    "compare . bugets=3": (2, "Unknown option 'bugets'; did you mean budgets"),
    "networks patern=*": (2, "Unknown option 'patern'; did you mean pattern"),
    "costs modle=msdnet": (2, "Unknown option 'modle'; did you mean model"),
    "costs model=msdnett": (2, "Unknown model 'msdnett'; did you mean msdnet"),
    # form
    "calibrate checkpoint=run --budget 50%": (2, "budget=VALUE and not --budget"),
    "train epochs": (2, "which are written NAME=VALUE"),
    "train seed=1,2": (2, r"several values: write seed=\[1,2\] for a list, or add -m for a run of each"),
    # what is missing
    "calibrate": (1, "either checkpoint=RUN or scores=FILE.npz"),
    "calibrate checkpoint=run": (1, "one of budget=, risk.eps= and deadline= is needed"),
    "evaluate": (1, "either checkpoint=RUN, or scores=FILE.npz"),
    "export checkpoint=run": (1, "add policy=FILE"),
    "predict": (1, "either checkpoint=RUN with policy=FILE, or engine=FOLDER"),
    "predict engine=exported": (1, "images=FOLDER"),
    "bench": (1, "checkpoint=RUN, or model=NAME"),
    "compare": (2, "runs is needed"),
    # values
    "check output=findings.txt": (1, "output=findings.txt must be a .csv file"),
    "train seed=one": (1, "seed=one must be an integer"),
    "train unit=flops": (1, "Unknown unit 'flops'"),
    "train resume=maybe": (1, "resume=maybe must be true or false"),
    "calibrate checkpoint=run budget=50% policy=optimall": (1, "Unknown policy 'optimall'; did you mean optimal"),
    "calibrate checkpoint=run budget=50% unit=fractions": (1, "Unknown unit 'fractions'; did you mean fraction"),
    "calibrate checkpoint=run risk.eps=0.1 risk.bound=binomal": (1, "did you mean binomial"),
    "calibrate scores=s.npz budget=1": (1, "add cost="),
    "evaluate checkpoint=run images=new": (1, "needs policy=FILE"),
    "predict engine=exported images=new backend=openvin": (1, "did you mean openvino"),
    "predict engine=exported images=new output=rows.txt": (1, "must end in .csv or .jsonl"),
    "bench model=ranet_tiny precisions=float16": (1, "Unknown precision 'float16'"),
    "bench model=ranet_tiny backends=[torch,onnx]": (1, "Unknown backend 'onnx'; did you mean onnxruntime"),
    "compare . budgets=1": (1, "budgets=1 must be an integer of at least 2"),
    "costs image_size=big": (1, "image_size=big must be an integer of at least 1, or two of them"),
    # files
    "evaluate checkpoint=nowhere": (1, "There is no run folder or checkpoint file nowhere"),
    "calibrate checkpoint=nowhere budget=50%": (1, "There is no run folder or checkpoint file nowhere"),
    "bench checkpoint=nowhere": (1, "There is no run folder or checkpoint file nowhere"),
    "evaluate checkpoint=. policy=p.json": (1, "p.json' does not exist; ranet calibrate writes one"),
    "export checkpoint=. policy=p.json output=out": (1, "p.json' does not exist; ranet calibrate writes one"),
    "predict checkpoint=. policy=p.json images=new": (1, "p.json' does not exist; ranet calibrate writes one"),
    "predict engine=exported images=new": (1, "'exported' does not exist; ranet export writes one"),
    "compare nowhere": (1, "There is no folder nowhere to look for runs in"),
}
WITHOUT = ("torch", "torchvision", "pytorch_lightning", "scipy", "sklearn", "matplotlib", "onnx", "wandb")
#: Of each command line its status, standard output and error, and whether pydantic was imported by then.
Outcomes = dict[str, tuple[int, str, str, bool]]
SCRIPT = f"""
import contextlib, io, json, sys
for name in {WITHOUT}:
    sys.modules[name] = None  # an import of it fails
from ranet.cli.main import main
outcomes = {{}}
for line in json.load(sys.stdin):
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(line.split())
        except SystemExit as end:
            status = end.code or 0
        except Exception as error:
            status = repr(error)
    outcomes[line] = status, out.getvalue(), err.getvalue(), "pydantic" in sys.modules
json.dump(outcomes, sys.stdout)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    folder = tmp_path_factory.mktemp("empty")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(list(CASES)), text=True, capture_output=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert not [path for path in folder.rglob("*") if path.is_file()], "nothing is written"
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", CASES)
def test_it_is_answered_without_pytorch(line: str, outcomes: Outcomes) -> None:
    status, out, err, _ = outcomes[line]
    wanted, words = CASES[line]
    assert status == wanted, err
    said = out if wanted == 0 else err
    assert re.search(words, said.strip().splitlines()[-1]), said
    assert wanted == 0 or (len(err.splitlines()) == 1 and not out)


def test_pydantic_waits_for_a_file_that_it_reads(outcomes: Outcomes) -> None:
    """The import takes a tenth of a second, so help and mistakes in the options do without."""
    first = list(CASES).index("evaluate checkpoint=. policy=p.json")
    assert not any(imported for *_, imported in list(outcomes.values())[:first])
    assert list(outcomes.values())[first][-1]


def test_a_command_ends_without_a_search_through_all_that_it_made() -> None:
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0));"
        "from ranet.cli.main import main; main(['networks'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True", "what is registered first is called last"
    assert not done.stderr


def test_a_reader_that_has_seen_enough_ends_the_help() -> None:
    command = [sys.executable, "-c", "from ranet.cli.main import main; main(['train', '--help'])"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_version_is_that_of_the_package() -> None:
    assert ranet.__version__ == version("ranet")
