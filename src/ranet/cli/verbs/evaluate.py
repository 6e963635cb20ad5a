"""ranet evaluate: curves of a network or results of a policy on test images, or the drift of a policy on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from ranet.calibration.policies.exit_policy import ExitPolicy, load_policy
from ranet.calibration.policies.intervals import few_images
from ranet.calibration.scores.cache import ScoreCache
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.cli.inputs.scoring import save_scores, score, score_cache, score_unlabelled
from ranet.cli.inputs.trained import load_network_and_data
from ranet.cli.outputs.run_folder import run_folder, write_record
from ranet.cost.profile import measure_costs
from ranet.data.module import ImageData
from ranet.evaluation.curves.published import published_points
from ranet.evaluation.policies.drift import measure_drift
from ranet.evaluation.policies.promise_and_truth import policy_report
from ranet.evaluation.reports.document import Document
from ranet.evaluation.reports.drift import drift_document
from ranet.evaluation.reports.network import write_report
from ranet.evaluation.reports.policy import policy_document
from ranet.models.fingerprint import network_fingerprint
from ranet.models.registry import is_published
from ranet.support.console import new_console
from ranet.training.checkpoints import TrainedNetwork

_DATA_TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet", "digits": "cluttered digits"}
_NAMED = 10  # images that cannot be read


def run(config: DictConfig) -> None:
    """Evaluate, as the configuration says."""
    policy = None if config.policy is None else load_policy(config.policy)
    if config.scores is not None:
        assert policy is not None, "the options were checked"
        report_scores(policy, ExitScores.load(config.scores), config)
        return
    trained, data = load_network_and_data(config)
    if policy is not None:
        policy.require_network(network_fingerprint(trained.network))
        policy.require_exits(trained.network.num_exits)
    folder = run_folder()
    if policy is None:
        write_record(folder, config)
        report_curves(trained, data, folder, config.unit or "macs", score_cache(config.cache))
    elif config.images is None:
        scores = score(trained, data, "test", score_cache(config.cache), temperatures=policy.temperatures)
        report_policy(policy, scores, folder, config, data.class_names)
    else:
        scores, left_out = score_unlabelled(trained, data, config.images, policy.temperatures)
        report_drift(policy, scores, folder, config, left_out)


def report_scores(policy: ExitPolicy, scores: ExitScores, config: DictConfig) -> None:
    """Compare a policy's results on scored images with its promise; without labels, measure the drift."""
    folder = run_folder()
    if scores.has("correct"):
        report_policy(policy, scores, folder, config)
    else:
        report_drift(policy, scores, folder, config)


def report_policy(
    policy: ExitPolicy, scores: ExitScores, folder: Path, config: DictConfig, classes: Sequence[str] | None = None
) -> None:
    """Compare a policy's results on labelled images, of these classes, with its promise."""
    report = policy_report(policy, scores)
    write_record(folder, config)
    save_scores(scores, folder / "scores_test.npz", [config.scores])
    few = few_images(scores, "test", classes)
    _show(policy_document(report, "on test" if config.scores is None else "seen", [few] if few else []), folder)


def report_drift(
    policy: ExitPolicy, scores: ExitScores, folder: Path, config: DictConfig, left_out: Sequence[str] = ()
) -> None:
    """Report the drift of images without labels from those of the calibration, and the images that were left out."""
    report = measure_drift(policy, scores)
    write_record(folder, config)
    save_scores(scores, folder / "scores_images.npz", [config.scores])
    named = [*left_out[:_NAMED]]
    if left_out:
        total = len(left_out) + scores.num_images
        named.append(f"{len(left_out):,} of {total:,} images cannot be read and are left out.")
    _show(drift_document(report, named), folder)


def report_curves(
    trained: TrainedNetwork, data: ImageData, folder: Path, unit: str, cache: ScoreCache | None = None
) -> None:
    """Score test and validation images, or read their scores, and write tables and figures into the folder."""
    test = score(trained, data, "test", cache)
    test.save(folder / "scores_test.npz")
    validation = None
    if len(data.val_dataloader()):
        validation = score(trained, data, "validation", cache)
        validation.save(folder / "scores_validation.npz")
    profile = measure_costs(trained.network, data.image_size)
    profile.save(folder / "costs.json")
    title = f"{trained.recipe['network']['name']} on {_DATA_TITLES.get(data.name, data.root.resolve().name)}"
    report = write_report(
        folder,
        test,
        profile.table(unit),
        unit,
        validation=validation,
        published=_published(trained, data),
        images=_TestPictures(data, test.num_images),
        class_names=data.class_names,
        sizes=None if data.test_sizes is None else data.test_sizes.numpy(),
        size_name="size of the digit in pixels",
        title=title,
    )
    for scores, split in ((test, "test"), (validation, "validation")):
        if scores is not None and (few := few_images(scores, split, data.class_names)):
            print(few)
    for file in report.files:
        if file.endswith(".png"):
            print(f"  figure: {folder / file}")


def _show(document: Document, folder: Path) -> None:
    document.write(folder)
    document.print(new_console(), f"Written to {folder}")


def _published(trained: TrainedNetwork, data: ImageData) -> str | None:
    """Return the data set whose published points are drawn, if the network is one of the papers'; else None."""
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
