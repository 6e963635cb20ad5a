"""The group optim: every recipe has the same options, and what it says reaches the data, too."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from ranet.cli.command import register_model_group

RECIPES = sorted(path.stem for path in (Path(__file__).parents[3] / "conf" / "optim").glob("*.yaml"))
PLAIN: dict[str, Any] = {
    "decay_norm_and_bias": True,
    "label_smoothing": 0.0,
    "exit_weights": None,
    "ema": {"decay": None},
    "augmentation": {"erasing": 0.0, "cutout": 0, "mixup": 0.0, "cutmix": 0.0, "mixing_probability": 1.0},
}


def composed(*overrides: str, verb: str = "train") -> dict[str, Any]:
    register_model_group()
    with initialize_config_module("ranet.conf", version_base="1.3"):
        config = compose(verb, list(overrides))
    return {part: OmegaConf.to_container(config[part], resolve=True) for part in ("optim", "data") if part in config}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_differ_in_their_values_only(name: str) -> None:
    recipe = composed(f"optim={name}")["optim"]
    own = {option: value for option, value in recipe.items() if option in PLAIN}
    assert recipe.keys() == {"name", "optimizer", "schedule", *PLAIN}
    assert own["augmentation"].keys() == PLAIN["augmentation"].keys()
    assert own["ema"].keys() == PLAIN["ema"].keys()
    assert recipe["name"] == name
    assert (own == PLAIN) == (name != "modern")


def test_what_the_recipes_share_is_no_recipe() -> None:
    assert RECIPES == ["cosine", "modern", "published", "published_imagenet"]
    with pytest.raises(MissingConfigException):
        composed("optim=base")


def test_a_recipe_reaches_the_data() -> None:
    data = composed("optim=modern", "data=cifar10", "optim.augmentation.cutout=8")["data"]
    assert (data["erasing"], data["cutout"]) == (0.25, 8)
    data = composed("optim=modern", "data.erasing=0.5")["data"]
    assert (data["erasing"], data["cutout"]) == (0.5, 0)


@pytest.mark.parametrize("command", [("evaluate",), ("calibrate", "budget=1")])
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "digits", "imagefolder", "imagenet"])
def test_data_without_a_recipe_erase_nothing(name: str, command: tuple[str, ...]) -> None:
    verb, *needed = command
    data = composed(f"data={name}", "checkpoint=x", *needed, verb=verb)["data"]
    assert (data["erasing"], data["cutout"]) == (0.0, 0)
