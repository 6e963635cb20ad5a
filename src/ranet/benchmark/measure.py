"""Measure whether early exit pays: the engine against the same network whole, as trained, and against rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch

from ranet.benchmark.answers import EngineAnswers, Images, Reference, Task, answer_all
from ranet.benchmark.results import (
    CALL,
    STREAM,
    PolicyTimes,
    RivalTimes,
    Setting,
    SettingTimes,
    ideal_time,
    policy_name,
    predicted_share,
)
from ranet.benchmark.rivals import Rival, all_exits, open_rivals, run_as_trained, run_whole
from ranet.benchmark.turns import WARM_UP, Amount, Pace, Turn, affordable, seconds_of_calls, take_turns
from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.cost.profile import measure_costs
from ranet.cost.timings import MILLISECONDS
from ranet.errors import UserError
from ranet.inference.choosing.open_backend import open_network
from ranet.inference.engine.engine import EarlyExitEngine
from ranet.inference.runtimes.backend import Backend, Precision, Runtime
from ranet.inference.runtimes.stage_times import StepSeconds, time_chains
from ranet.inference.stages.fused_stages import FusedStage

ALL_EXITS = "all exits"
_TRAINED, _WHOLE, _STAGES = "as trained", "whole", "stages"
#: The one stage of the network with the logits of all exits.
_UNCUT = FusedStage(0, 0)


def benchmark_settings(
    task: Task,
    settings: Sequence[Setting],
    reference: Reference,
    rivals: Sequence[Rival] = (),
    *,
    threads: int | None = None,
    amount: Amount = Amount(),  # noqa: B008, it cannot change
) -> Iterator[SettingTimes]:
    """Yield the times of each setting: by backend and precision as they first appear, then by batch size.

    The reference is that of `reference_answers`, and the rivals are checked by `check_rivals`. The threads are as in
    `EarlyExitEngine`.

    Raises:
        UserError: before anything is measured, if a backend cannot run the network, there are fewer images than in a
            batch, or batches have a size that a backend does not compute; later, if a runtime cannot run a rival.
    """
    device = str(next(task.network.parameters()).device)
    if threads is not None:
        torch.set_num_threads(threads)
    sizes = [setting.batch_size for setting in settings]
    compiled = compiled_sizes(sizes)
    engines: dict[Runtime, EarlyExitEngine] = {}
    for setting in settings:
        own_sizes = compiled if setting.backend == "openvino" else None
        runtime = Runtime(setting.backend, device, cast(Precision, setting.precision), threads, own_sizes)
        if runtime not in engines:
            engines[runtime] = EarlyExitEngine(task.network, list(task.policies), **runtime._asdict())
        _check_size(engines[runtime], setting, len(task.images))
    # Only now, when all that can be wrong with the settings has been said, does it take time.
    for runtime, engine in engines.items():
        engine.prepare(compiled)
        answers = answer_all(engine, task, reference)
        whole = open_network(all_exits(task.network), runtime).backend
        opponents = {ALL_EXITS: whole, **open_rivals(rivals, runtime, sizes)}
        for setting in settings:
            if (setting.backend, setting.precision) == (runtime.backend, runtime.precision):
                yield benchmark_setting(engine, setting, task, answers, opponents, rivals, amount)


def compiled_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the batch sizes that are measured, and powers of two below the largest for what is left of a batch.

    Example:
        >>> compiled_sizes([1, 48])
        (1, 2, 4, 8, 16, 32, 48)
    """
    return tuple(sorted({*(2**i for i in range((max(sizes) - 1).bit_length())), *sizes}))


def benchmark_setting(
    engine: EarlyExitEngine,
    setting: Setting,
    task: Task,
    answers: Sequence[EngineAnswers],
    opponents: Mapping[str, Backend],
    rivals: Sequence[Rival] = (),
    amount: Amount = Amount(),  # noqa: B008, it cannot change
) -> SettingTimes:
    """Let engine, whole network, stages and opponents take turns on batches of one size.

    The engine is of the setting's backend and precision, prepared, and its answers are those of `answer_all`. The
    opponents are `ALL_EXITS`, and rivals by name; a rival that is not among them has no turn.
    """
    size = setting.batch_size
    batches = [task.images[at : at + size] for at in range(0, len(task.images) - size + 1, size)]
    plans = [tuple(engine.plan(policy).stages) for policy in task.policies]
    single = tuple(FusedStage(k, k) for k in range(engine.backend.facts.num_exits))
    cut = list(dict.fromkeys([single, *plans]))
    chains = [(opponents[ALL_EXITS], (_UNCUT,)), *((engine.backend, chain) for chain in cut)]
    stage_turn = partial(time_chains, chains, size)
    contestants = _contestants(engine, task, opponents, size)

    def turns(timed: Sequence[Images], as_trained: int) -> dict[Any, Turn]:
        return {
            name: partial(run, timed[:as_trained] if name == _TRAINED else timed) for name, run in contestants.items()
        }

    few = [batches[number % len(batches)] for number in range(WARM_UP)]
    count, as_trained = affordable(turns(few, WARM_UP), _TRAINED, stage_turn, len(batches), amount)
    images = count * size
    contest: dict[Any, Callable[[], Any]] = {**turns(batches[:count], as_trained), _STAGES: stage_turn}
    tick = None if amount.tick is None else partial(amount.tick, amount.rounds * len(contest))
    measured = take_turns(contest, amount.rounds, tick)
    of_uncut, *of_cut = _stage_times(measured.pop(_STAGES), size)
    times = dict(zip(cut, of_cut, strict=True))
    paces = {
        name: Pace.of(seconds, as_trained * size if name == _TRAINED else images) for name, seconds in measured.items()
    }
    costs = measure_costs(task.network)
    table = costs.table("macs")
    macs = table.cumulative()
    is_lazy = any(getattr(module, "lazy", False) for module in task.network.modules())
    whole_macs = costs.lazy_macs_per_exit_alone[-1]
    policies = []
    for number, (policy, chain) in enumerate(zip(task.policies, plans, strict=True)):
        exits, executed = answers[number].exits[:images], answers[number].executed[:images]
        policies.append(
            PolicyTimes(
                name=policy_name(policy, number + 1),
                predicted=predicted_share(policy),
                macs=float((macs[exits] + executed @ table.parts).mean() / macs[-1]),
                ideal=ideal_time(times[chain], chain, exits),
                measured={way: paces[number, way] for way in (CALL, STREAM) if (number, way) in paces},
                answered=answers[number].worth,
                exit_shares=np.bincount(exits, minlength=len(single)) / images,
            )
        )
    return SettingTimes(
        setting=setting,
        images=images,
        whole_macs=whole_macs / macs[-1],
        trained_macs=(whole_macs if is_lazy else costs.macs_per_exit_alone[-1]) / macs[-1],
        trained=paces[_TRAINED],
        whole=paces[_WHOLE],
        all_exits=paces[ALL_EXITS],
        stages=np.array([times[single][stage] for stage in single]),
        stages_uncut=of_uncut[_UNCUT],
        policies=policies,
        rivals=[
            RivalTimes(rival.name, rival.accuracy, opponents[rival.name].facts.input_shape, paces[rival.name])
            for rival in rivals
            if rival.name in opponents
        ],
        last_exit=answers[-1].worth,
    )


def _contestants(
    engine: EarlyExitEngine, task: Task, opponents: Mapping[str, Backend], size: int
) -> dict[Any, Callable[[Sequence[Images]], list[float]]]:
    """Return functions that time the answers to batches, by name; those of policies by number and way of answering.

    Opponents that read images of another shape get random ones.
    """

    def on_its_images(backend: Backend, batches: Sequence[Images]) -> list[float]:
        shape = backend.facts.input_shape
        if batches[0].shape[1:] != shape:
            random = np.random.default_rng(0)
            batches = [random.standard_normal((size, *shape), dtype=np.float32)] * len(batches)
        return seconds_of_calls(runs[backend], batches)

    runs = {backend: run_whole(backend, size) for backend in (engine.backend, *opponents.values())}
    found: dict[Any, Callable[[Sequence[Images]], list[float]]] = {
        _TRAINED: partial(seconds_of_calls, run_as_trained(task.network)),
        **{name: partial(on_its_images, backend) for name, backend in {_WHOLE: engine.backend, **opponents}.items()},
    }
    for number, policy in enumerate(task.policies):
        found[number, CALL] = partial(seconds_of_calls, partial(engine, policy=policy))
        if size > 1:
            found[number, STREAM] = partial(_seconds_of_stream, engine, policy, size)
    return found


def _check_size(engine: EarlyExitEngine, setting: Setting, images: int) -> None:
    size, allowed = setting.batch_size, engine.backend.fixed_sizes
    if images < size:
        raise UserError(f"batch_sizes={size} is more than the {images} images; take more images, or smaller batches.")
    if allowed is not None and size not in allowed:
        raise UserError(
            f"batch_sizes={size} must be one of {', '.join(map(str, allowed))}, which {setting.backend} computes here."
        )


def _stage_times(
    rounds: Sequence[Sequence[Mapping[FusedStage, Sequence[StepSeconds]]]], size: int
) -> list[dict[FusedStage, float]]:
    """Return, for each chain, the milliseconds an image of each stage alone: the median over the rounds' medians."""

    def of(stage: FusedStage, chains: Sequence[Mapping[FusedStage, Sequence[StepSeconds]]]) -> float:
        seconds = np.median([np.median([step.run for step in chain[stage]]) for chain in chains])
        return MILLISECONDS / size * float(seconds)

    return [{stage: of(stage, chains) for stage in chains[0]} for chains in zip(*rounds, strict=True)]


def _seconds_of_stream(
    engine: EarlyExitEngine, policy: ExitPolicy, size: int, batches: Sequence[Images]
) -> list[float]:
    """Return the seconds until a stream asks for the first batch, between its batches, and until it ends."""
    moments = [perf_counter()]

    def given() -> Iterator[Images]:
        for batch in batches:
            moments.append(perf_counter())
            yield batch
        moments.append(perf_counter())

    for _ in engine.stream(given(), batch_size=size, policy=policy):
        pass
    return np.diff([*moments, perf_counter()]).tolist()
