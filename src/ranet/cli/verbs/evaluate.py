"""ranet evaluate: curves of a network or results of a policy on test images, or the drift of a policy on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor

from ranet.calibration.policies.exit_policy import load_policy
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
    classes: Sequence[str] | None = None
    left_out: Sequence[str] = ()
    if config.scores is not None:
        folder, scores = run_folder(), ExitScores.load(config.scores)
    else:
        trained, data = load_network_and_data(config)
        if policy is not None:
            policy.require_network(network_fingerprint(trained.network))
            policy.require_exits(trained.network.num_exits)
        folder, classes = run_folder(), data.class_names
        if policy is None:
            write_record(folder, config)
            report_curves(trained, data, folder, config.unit or "macs", score_cache(config.cache))
            return
        if config.images is None:
            scores = score(trained, data, "test", score_cache(config.cache), temperatures=policy.temperatures)
        else:
            scores, left_out = score_unlabelled(trained, data, config.images, policy.temperatures)
    assert policy is not None, "the options were checked"
    if scores.has("correct"):
        few = few_images(scores, "test", classes)
        seen_on = "on test" if config.scores is None else "seen"
        document = policy_document(policy_report(policy, scores), seen_on, [few] if few else [])
    else:
        document = drift_document(measure_drift(policy, scores), _not_read(left_out, scores.num_images))
    write_record(folder, config)
    split = "test" if scores.has("correct") else "images"
    save_scores(scores, folder / f"scores_{split}.npz", [config.scores])
    document.write(folder)
    document.print(new_console(), f"Written to {folder}")


def _not_read(left_out: Sequence[str], others: int) -> list[str]:
    """Return sentences about images that were left out."""
    if not left_out:
        return []
    total = len(left_out) + others
    return [*left_out[:_NAMED], f"{len(left_out):,} of {total:,} images cannot be read and are left out."]


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

    def __getitem__(self, index: int) -> Tensor:
        return self.data.test_images([index])[0]
