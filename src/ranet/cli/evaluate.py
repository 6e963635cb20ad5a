"""ranet evaluate: the curves of a trained network, or what a policy does, on test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console

from ranet.calibration import ExitScores, load_policy
from ranet.cli.edge import command
from ranet.cli.run_folder import run_folder, write_record
from ranet.cli.trained import check_unit, load_network_and_data
from ranet.cost import measure_costs
from ranet.data import ImageData
from ranet.evaluation import policy_report, published_points, write_report
from ranet.models import is_published
from ranet.training import TrainedNetwork

_DATA_TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet", "digits": "cluttered digits"}


@command("evaluate")
def main(config: DictConfig) -> None:
    """Evaluate, as the configuration says."""
    check_unit(config.unit)
    policy = None if config.policy is None else load_policy(config.policy)
    trained, data = load_network_and_data(config)
    if policy is not None:
        policy.require_exits(trained.network.num_exits)
    folder = run_folder()
    if policy is None:
        write_record(folder, config)
        report_curves(trained, data, folder, config.unit, config.lazy)
        return
    scores = score(trained, data, "test")
    report = policy_report(policy, scores)
    write_record(folder, config)
    scores.save(folder / "scores_test.npz")
    report.write(folder)
    console = Console()
    console.print(report.table())
    console.print(f"Written to {folder}", soft_wrap=True, markup=False)


def report_curves(trained: TrainedNetwork, data: ImageData, folder: Path, unit: str, lazy: bool) -> None:
    """Score test and validation images and write tables and figures into the folder."""
    test = score(trained, data, "test")
    test.save(folder / "scores_test.npz")
    validation = None
    if len(data.val_dataloader()):
        validation = score(trained, data, "validation")
        validation.save(folder / "scores_validation.npz")
    profile = measure_costs(trained.network, data.image_size)
    profile.save(folder / "costs.json")
    title = f"{trained.recipe['network']['name']} on {_DATA_TITLES.get(data.name, data.root.resolve().name)}"
    report = write_report(
        folder,
        test,
        profile.per_exit(unit, lazy),
        f"lazy_{unit}" if lazy else unit,
        validation=validation,
        published=_published(trained, data),
        images=_TestPictures(data, test.num_images),
        class_names=data.class_names,
        sizes=None if data.test_sizes is None else data.test_sizes.numpy(),
        size_name="size of the digit in pixels",
        title=title,
    )
    for file in report.files:
        if file.endswith(".png"):
            print(f"  figure: {folder / file}")


def score(trained: TrainedNetwork, data: ImageData, split: str) -> ExitScores:
    """Score a split, "test" or "validation", on the network's device."""
    loader = data.test_dataloader() if split == "test" else data.val_dataloader()
    assert not isinstance(loader, list), "there are no validation images"
    return ExitScores.collect(trained.network, loader)


def _published(trained: TrainedNetwork, data: ImageData) -> str | None:
    """The data set whose published points belong beside this network's: those of the papers' own configurations."""
    if data.name not in {point.data for point in published_points()}:
        return None
    network = trained.recipe["network"]
    return data.name if is_published(network["name"], network["options"]) else None


@dataclass(frozen=True)
class _TestPictures:
    """The test images, read one by one when a figure needs them."""

    data: ImageData
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        return self.data.test_images(torch.tensor([index]))[0].numpy()
