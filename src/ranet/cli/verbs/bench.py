"""ranet bench: whether early exit pays, measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ranet.benchmark.answers import Task, reference_answers
from ranet.benchmark.measure import benchmark_settings
from ranet.benchmark.report import sentences, setting_sheet, write_benchmark
from ranet.benchmark.results import Benchmark, Setting, SettingTimes
from ranet.benchmark.rivals import check_rivals, find_rivals
from ranet.benchmark.turns import Amount
from ranet.calibration.goals import Budget, BudgetAmount
from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.outcome import costs_of_images
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.budget import calibrate_each
from ranet.cli.inputs.build import plain
from ranet.cli.inputs.scoring import score, score_cache
from ranet.cli.inputs.trained import evaluation_device, load_network_and_data
from ranet.cli.options.bench import rival_names, settings_of
from ranet.cli.options.calibrate import budget_amounts
from ranet.cli.options.shared import has_network, read_policies
from ranet.cli.outputs.run_folder import environment, package_version, run_folder, write_record
from ranet.cost.profile import measure_costs
from ranet.cost.table import CostTable
from ranet.errors import UserError
from ranet.models.fingerprint import network_fingerprint
from ranet.models.registry import create_network
from ranet.models.staged import StagedNetwork
from ranet.support.console import new_console, print_sheets, say
from ranet.support.hardware import compute_threads
from ranet.support.progress import Bar

#: Default budgets as shares of the last exit's cost; those below the first exit's cost are left out.
SHARES = (0.25, 0.5, 0.75)


def run(config: DictConfig) -> None:
    """Measure, as the configuration says."""
    device = _device(config)
    settings, notices = settings_of(config, on_gpu=device.type != "cpu")
    policies = None if config.policy is None else read_policies(config.policy)
    folder = run_folder()
    name, task = _trained(config, policies, device) if has_network(config) else _random(config, policies, device)
    for policy in task.policies:
        policy.require_network(network_fingerprint(task.network))
        policy.require_exits(task.network.num_exits)
    rivals = find_rivals(rival_names(config), task.network.num_classes, task.network.image_shape)
    check_rivals(rivals, [setting.backend for setting in settings], [setting.batch_size for setting in settings])
    console = new_console()
    say(console, _how_long(settings, config.seconds), *notices)
    measured: list[SettingTimes] = []
    with Bar("Answering all images as trained") as shown:
        reference = reference_answers(task)
        shown.begin(str(settings[0]))
        amount = Amount(config.rounds, config.seconds, shown.step)
        for result in benchmark_settings(task, settings, reference, rivals, threads=config.threads, amount=amount):
            measured.append(result)
            if len(measured) < len(settings):
                shown.begin(str(settings[len(measured)]))
    benchmark = Benchmark(
        measured,
        len(task.images),
        config.rounds,
        reference.exit_accuracies,
        _conditions(config, device, len(task.images)),
        notices,
    )
    write_record(folder, config)
    files = write_benchmark(folder, benchmark, f"Early exit of {name}")
    print_sheets(console, *(setting_sheet(result, config.rounds) for result in measured))
    figures = [f"  figure: {file}" for file in files if file.suffix == ".png"]
    written = f"Written to {folder}; its bench.md says what lines and columns mean"
    say(console, *sentences(benchmark)[len(notices) :], written, *figures)


def _device(config: DictConfig) -> torch.device:
    try:
        device = evaluation_device() if config.device is None else torch.device(str(config.device))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without the device
        raise UserError(f"device={config.device} is not available; remove it, or use device=cpu.") from error
    return device


def _trained(config: DictConfig, policies: list[ExitPolicy] | None, device: torch.device) -> tuple[str, Task]:
    """Return name and task of a trained network with its policies, and a seeded choice of its test images."""
    trained, data = load_network_and_data(config)
    network = trained.network.to(device)
    if policies is None:
        if not len(data.val_dataloader()):
            raise UserError(
                "There are no validation images to solve policies on: give policy=FILE of ranet calibrate, or train "
                "with a validation split."
            )
        cache = score_cache(config.cache)
        policies = _solved(network, config.budget, lambda: score(trained, data, "validation", cache))
    order = torch.randperm(data.size("test"), generator=torch.Generator().manual_seed(config.seed))
    batches = list(data.evaluation_loader("test", order[: config.images_limit]))
    images, labels = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    return f"{trained.recipe['network']['name']} on {data.name}", Task(network, policies, images, labels)


def _random(config: DictConfig, policies: list[ExitPolicy] | None, device: torch.device) -> tuple[str, Task]:
    """Return name and task of a network with random weights, random images, and policies solved on its scores."""
    options = {name: value for name, value in plain(config.model).items() if name != "name" and value is not None}
    torch.manual_seed(config.seed)
    network = create_network(config.model.name, **options).to(device).eval()
    images = torch.randn(config.images_limit, *network.image_shape)
    if policies is None:
        batches = ((part, torch.zeros(len(part), dtype=torch.int64)) for part in images.split(100))
        with Bar("Scoring random images"):
            policies = _solved(network, config.budget, lambda: ExitScores.collect(network, batches, labelled=False))
    return f"{config.model.name} with random weights", Task(network, policies, images.numpy(), None)


def _goal(budget: Any, costs: CostTable) -> Budget:
    """Return the budgets that are asked for, or `SHARES` as far as the first exit allows."""
    if budget is not None:
        return Budget(budget_amounts(budget), alternatives=False)
    reachable = costs.cumulative()[0] / costs.cumulative()[-1]
    amounts = tuple(BudgetAmount(share, is_share=True) for share in SHARES if share >= reachable)
    if not amounts:
        raise UserError("The first exit costs more than 75 % of the last; say budget=, such as budget=90%.")
    return Budget(amounts, alternatives=False)


def _solved(network: StagedNetwork, budget: Any, scored: Callable[[], ExitScores]) -> list[ExitPolicy]:
    """Return the policies for the budgets that are asked for; what is wrong with these is said before scoring."""
    table = measure_costs(network).table("macs")
    goal = _goal(budget, table)
    scores = scored()
    costs = costs_of_images(table, scores)
    wanted = sorted(goal.values(costs.means))
    return [one.policy for one in calibrate_each(scores, costs, wanted, unit=table.unit, alternatives=False)]


def _how_long(settings: Sequence[Setting], seconds: float | None) -> str:
    many = f"{len(settings)} settings" if len(settings) > 1 else "one setting"
    if seconds is None:
        return f"Measuring {many} on all images in every round, however long it takes."
    minutes = len(settings) * seconds / 60
    about = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{60 * minutes:.0f} seconds"
    return f"Measuring {many} in about {about}, and what compiling and warming up takes."


def _conditions(config: DictConfig, device: torch.device, images: int) -> dict[str, Any]:
    """Return the conditions of the measurement: command, hardware and versions."""
    job = HydraConfig.get()
    around = environment()
    names = ("ranet", "torch", "torchvision", "onnx", "onnxruntime", "openvino", "timm")
    versions = [f"{name} {version}" for name in names if (version := package_version(name)) is not None]
    return {
        "command": " ".join(["ranet", str(job.job.config_name), *job.overrides.task]),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else around["processor"],
        "threads": config.threads or f"{compute_threads()} (PyTorch: {around['threads']})",
        "images": images,
        "rounds": config.rounds,
        "seconds for a setting": config.seconds,
        "versions": ", ".join(versions),
        "system": f"{around['machine']}, Python {sys.version.split()[0]}",
        "revision": around["git_revision"],
    }
