"""The golden picture of an exported folder: people with code of their own find what ranet finds."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ranet import EarlyExitEngine, ExitPolicy, UserError, create_network
from ranet.images.preprocessing import Preprocessing
from ranet.inference.exported.export import export_engine
from ranet.inference.exported.folder import ExportedFolder
from ranet.inference.exported.golden import check_golden, golden_pixels

PREPROCESSING = Preprocessing(32, 37, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
SMALL = {"blocks": 3, "base": 1, "step": 1, "channels": 4, "growth": 4, "num_classes": 7}
# A program whose author knows the manifest and not ranet.
BY_OTHERS = """
import json, sys
import numpy as np, onnxruntime
from PIL import Image

manifest = json.load(open("manifest.json"))
how, golden = manifest["preprocessing"], np.load(manifest["golden"]["arrays"])
assert (how["interpolation"], how["antialias"], how["crop"]) == ("bilinear", True, "center")
picture = Image.open(manifest["golden"]["picture"])
assert picture.mode == "RGB" and picture.width > picture.height > how["resize"] > how["image_size"]
picture = picture.resize((how["resize"] * picture.width // picture.height, how["resize"]), Image.Resampling.BILINEAR)
left, top = (round((side - how["image_size"]) / 2) for side in picture.size)
picture = picture.crop((left, top, left + how["image_size"], top + how["image_size"]))
mean, std = (np.reshape(how[name], (3, 1, 1)) for name in ("mean", "std"))
seen = (np.asarray(picture).transpose(2, 0, 1) / 255 - mean) / std
assert np.abs(seen - golden["input"]).max() < 1e-6, "the input"

tensors, checked = {manifest["stages"][0]["before"][0]["name"]: seen[None].astype(np.float32)}, []
state = list(tensors.values())
for stage in manifest["stages"]:
    known = dict(zip([tensor["name"] for tensor in stage["before"]], state))
    session = onnxruntime.InferenceSession(stage["file"], providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    known.update(zip(names, session.run(names, {name: known[name] for name in stage["inputs"]})))
    state = [known[tensor["name"]] for tensor in stage["after"]]
    expected = golden["logits"][stage["last"]]
    assert np.abs(known[stage["logits"]][0] - expected).max() < 1e-4 * np.abs(expected).max(), "the logits"
    checked.append(stage["last"])
assert len(golden["logits"]) == manifest["network"]["num_exits"]
assert not {"ranet", "torch"} & set(sys.modules)
print(checked)
"""


GREY = Preprocessing((28, 40), (32, 46), (0.5,), (0.25,))


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    torch.manual_seed(0)
    own = {"growth_factors": [1, 2], "bottleneck_factors": [1, 2], "image_size": [28, 40], "in_channels": 1}
    here = tmp_path_factory.mktemp("grey")
    network, policy = create_network("msdnet", **SMALL, **own), ExitPolicy((0.9, 0.5))
    export_engine(*(network, policy, here / "engine"), preprocessing=GREY.to_dict(), cache=here / "cache")
    return here / "engine"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    torch.manual_seed(0)
    network = create_network("msdnet", **SMALL, growth_factors=[1, 2], bottleneck_factors=[1, 2])
    here = tmp_path_factory.mktemp("golden")
    policy = ExitPolicy((0.9, 0.5))
    export_engine(*(network, policy, here / "engine"), preprocessing=PREPROCESSING.to_dict(), cache=here / "cache")
    return here / "engine"


def test_code_that_knows_nothing_of_ranet_finds_input_and_logits(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BY_OTHERS], cwd=folder, capture_output=True, text=True)
    assert done.stdout == "[0, 1, 2]\n", done.stderr


def test_a_grey_network_has_a_grey_picture(grey: Path) -> None:
    picture = Image.open(grey / "golden.png")
    assert (picture.mode, picture.size) == ("L", (78, 43))
    with np.load(grey / "golden.npz") as golden:
        seen = picture.resize((32 * 78 // 43, 32), Image.Resampling.BILINEAR).crop((9, 2, 49, 30))
        np.testing.assert_allclose(golden["input"], (np.asarray(seen)[None] / 255 - 0.5) / 0.25, atol=1e-6)
        assert golden["logits"].shape == (3, 7)
    manifest = ExportedFolder(grey).manifest
    assert manifest.golden is not None
    assert check_golden(grey, manifest.golden, GREY) == 0


def test_the_picture_is_always_the_same_and_says_much(folder: Path) -> None:
    pixels = np.asarray(Image.open(folder / "golden.png"))
    np.testing.assert_array_equal(pixels, golden_pixels(37))
    assert pixels.shape == (50, 63, 3)
    seen = PREPROCESSING.pixels(Image.fromarray(pixels))
    assert all(len(np.unique(channel)) > 100 for channel in seen)
    # The usual mistakes show, by more than rounding.
    picture, kinds = Image.fromarray(pixels), Image.Resampling
    wrong = [picture.resize((46, 37), how).crop((7, 2, 39, 34)) for how in (kinds.BICUBIC, kinds.NEAREST)]
    wrong += [picture.resize((46, 37), kinds.BILINEAR).crop((7 + by, 2, 39 + by, 34)) for by in (-1, 1)]
    wrong.append(picture.resize((32, 32), kinds.BILINEAR))
    for other in wrong:
        assert np.abs(np.asarray(other).transpose(2, 0, 1).astype(int) - seen).max() > 5
    assert np.abs(seen[::-1].astype(int) - seen).max() > 8


def test_an_engine_checks_it_when_it_is_opened(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.WARNING, "ranet"):
        EarlyExitEngine(folder, backend="onnxruntime")
        assert not caplog.records
        pixels = Preprocessing.pixels
        monkeypatch.setattr(Preprocessing, "pixels", lambda self, image: pixels(self, image) ^ 1)
        EarlyExitEngine(folder, backend="onnxruntime")
    (record,) = caplog.records
    assert "golden.png becomes another input here, by up to 0.02: Pillow" in record.getMessage()


@pytest.mark.parametrize("name", ["golden.png", "golden.npz"])
@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_damage_is_said(folder: Path, name: str, damage: str, tmp_path: Path) -> None:
    manifest = ExportedFolder(folder).manifest
    assert manifest.golden is not None
    for file in manifest.golden.values():
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    assert check_golden(tmp_path, manifest.golden, PREPROCESSING) == 0
    content = (folder / name).read_bytes()
    (tmp_path / name).unlink()
    if damage != "missing":
        (tmp_path / name).write_bytes(content[: len(content) // 2] if damage == "cut" else b"other")
    with pytest.raises(UserError, match=r"golden.png' or golden.npz beside it is missing or damaged: copy the whole"):
        check_golden(tmp_path, manifest.golden, PREPROCESSING)
