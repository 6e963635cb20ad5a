"""The configuration as it lies in the repository: all of it can be composed, and all of it is used."""

import inspect
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from ranet.cli.command import register_model_group
from ranet.cli.inputs.build import build, network_options
from ranet.cli.outputs.own_folder import register_stamp
from ranet.models import create_network, list_networks, network_preset
from tests.end_to_end.commands import ranet

ROOT = Path(__file__).parents[3]
CONF = ROOT / "conf"
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments" / "experiment").glob("*.yaml"))
CHOICES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.glob("*/*.yaml"))


@cache
def composed(*overrides: str) -> DictConfig:
    """The configuration of ``ranet train``, all of whose interpolations can be resolved."""
    register_model_group()
    register_stamp()
    with initialize_config_module("ranet.conf", version_base="1.3"):
        config = compose("train", list(overrides))
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    return config


def test_there_are_experiments() -> None:
    assert "ranet_small_cifar10_cpu" in EXPERIMENTS


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_describes_a_run_that_can_begin(name: str) -> None:
    config = composed(f"+experiment={name}")
    data = build("data", config.data)
    with torch.device("meta"):
        assert create_network(config.model.name, **network_options(config.model, data)).num_exits > 1
    optimizer = build("optim.optimizer", config.optim.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    build("optim.schedule", config.optim.schedule)(optimizer, config.trainer.max_epochs, config.trainer.max_epochs)


def test_an_experiment_is_found_from_any_directory(tmp_path: Path) -> None:
    outcome = ranet("train", f"+experiment={EXPERIMENTS[0]}", "--cfg", "job", "--resolve", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    assert OmegaConf.create(outcome.out).seed == 0


@pytest.mark.parametrize("name", [*list_networks(), "msdnet", "ranet"])
def test_every_network_is_a_choice_of_the_group_model(name: str) -> None:
    config = composed(f"model={name}")
    assert config.model.name == config.run_name.removeprefix("digits_").removesuffix("_plain_seed0") == name
    own = {option for option in config.model if option != "name"}
    assert own == set(inspect.signature(type(create_network(network_preset(name).family))).parameters)


def test_costs_are_in_macs_by_default_and_in_paper_ops_where_published_points_are_drawn() -> None:
    units = {name: composed(f"+experiment={name}").unit for name in EXPERIMENTS}
    assert units == {name: "paper_ops" if name.startswith("published") else "macs" for name in EXPERIMENTS}
    assert composed().unit == OmegaConf.load(CONF / "compare.yaml").unit == "macs"


def test_every_choice_of_every_group_can_be_composed() -> None:
    for choice in CHOICES:
        group, name = choice.split("/")
        if name != "as_trained":
            composed(f"+{choice.replace('/', '=')}" if group == "experiment" else f"{group}={name}")


def test_every_option_is_used() -> None:
    """An option belongs to the signature of what it configures; the others are named in the code of the commands."""
    code = "\n".join(path.read_text() for path in (ROOT / "src" / "ranet" / "cli").rglob("*.py"))
    yaml = "\n".join(path.read_text() for path in CONF.rglob("*.yaml"))
    checked = 0

    def check(node: DictConfig, where: str) -> None:
        nonlocal checked
        target = node.get("_target_")
        parameters = set(inspect.signature(get_object(target)).parameters) if target else set()
        for name in node:
            value = node._get_node(name)
            full = f"{where}.{name}"
            if isinstance(value, DictConfig):
                check(value, full)
            elif target and not name.startswith("_"):
                checked += 1
                assert name in parameters, full
            elif not target:
                checked += 1
                read = re.search(
                    rf"\b(config|options|optim|augmentation)[.\w]*\.{name}\b|[\"']([\w.]+\.)?{name}[\"']", code
                )
                assert read or re.search(rf"\$\{{(oc\.select:)?([\w.]+\.)?{name}[,}}]", yaml), full

    for verb in (
        "check",
        "train",
        "calibrate",
        "evaluate",
        "export",
        "predict",
        "bench",
        "compare",
        "networks",
        "costs",
    ):
        top = OmegaConf.load(CONF / f"{verb}.yaml")
        assert isinstance(top, DictConfig)
        check(OmegaConf.masked_copy(top, [key for key in top if key not in ("defaults", "hydra")]), verb)
    for choice in CHOICES:
        group, name = choice.split("/")
        if group == "experiment" or name == "as_trained":
            continue  # made of the others' options
        check(composed(f"{group}={name}")[group], choice)
    assert checked > 80
