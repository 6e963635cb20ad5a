"""Measuring whether early exit pays: the engine against the same network whole, as trained, and against rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch

from ranet.benchmark.amount import WARM_UP, Amount, Turn, affordable
from ranet.benchmark.answers import EngineAnswers, Images, Reference, Task, answer_all
from ranet.benchmark.opponents import ALL_EXITS, TRAINED, Opponent, Opponents
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
from ranet.benchmark.rivals import Rival, check_rivals
from ranet.benchmark.timing import Pace, seconds_of_calls, take_turns
from ranet.benchmark.uncut import Runtime
from ranet.benchmark.with_uncut import WithUncut
from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.cost.profile import measure_costs
from ranet.errors import UserError
from ranet.inference.engine.engine import EarlyExitEngine
from ranet.inference.runtimes.backend import Precision
from ranet.inference.runtimes.stage_times import StageTimes, measure_stages
from ranet.inference.stages.fused_stages import FusedStage

_WHOLE, _STAGES = "whole", "stages"


def benchmark_settings(
    task: Task,
    settings: Sequence[Setting],
    reference: Reference,
    rivals: Sequence[Rival] = (),
    *,
    threads: int | None = None,
    amount: Amount = Amount(),  # noqa: B008, it cannot change
) -> Iterator[SettingTimes]:
    """Measure setting by setting.

    Args:
        task: network, policies and images.
        settings: what to measure in.
        reference: of `reference_answers`.
        rivals: static networks; an ONNX file has no turn in PyTorch.
        threads: processor threads for one operator; None: one for each core that this process may use.
        amount: how much.

    Yields:
        The times of each setting: by backend and precision as they first appear, then by batch size.

    Raises:
        UserError: before anything is measured, if a backend cannot run the network, there are fewer images than in a
            batch, or batches have a size that a backend or a rival does not compute; later, if a runtime cannot run a
            rival.
    """
    device = str(next(task.network.parameters()).device)
    if threads is not None:
        torch.set_num_threads(threads)
    check_rivals(rivals, [setting.backend for setting in settings], [setting.batch_size for setting in settings])
    sizes = compiled_sizes([setting.batch_size for setting in settings])
    engines: dict[Runtime, EarlyExitEngine] = {}
    for setting in settings:
        runtime = Runtime(setting.backend, cast(Precision, setting.precision), threads, device)
        if runtime not in engines:
            engines[runtime] = EarlyExitEngine(
                task.network,
                list(task.policies),
                runtime.backend,
                precision=runtime.precision,
                threads=threads,
                batch_sizes=sizes if runtime.backend == "openvino" else None,
            )
        _check_size(engines[runtime], setting, len(task.images))
    # Only now, when all that can be wrong with the settings has been said, does it take time.
    opponents = Opponents(task.network, rivals)
    for runtime, engine in engines.items():
        engine.prepare(sizes)
        answers = answer_all(engine, task, reference)
        for setting in settings:
            if (setting.backend, setting.precision) == runtime[:2]:
                others = opponents.ready(runtime, setting.batch_size)
                yield benchmark_setting(engine, setting, task, answers, others, rivals, amount)


def compiled_sizes(sizes: Sequence[int]) -> list[int]:
    """The batch sizes that are measured, and powers of two below the largest of them for what is left of a batch.

    Example:
        >>> compiled_sizes([1, 48])
        [1, 2, 4, 8, 16, 32, 48]
    """
    powers = [2**i for i in range(max(sizes).bit_length()) if 2**i < max(sizes)]
    return sorted({*powers, *sizes})


def benchmark_setting(
    engine: EarlyExitEngine,
    setting: Setting,
    task: Task,
    answers: EngineAnswers,
    opponents: Mapping[str, Opponent],
    rivals: Sequence[Rival] = (),
    amount: Amount = Amount(),  # noqa: B008, it cannot change
) -> SettingTimes:
    """Let engine, whole network, stages and opponents take turns on batches of one size.

    Args:
        engine: of the setting's backend and precision, prepared.
        setting: which.
        task: network, policies and images.
        answers: of the engine to all images.
        opponents: `TRAINED`, `ALL_EXITS`, and rivals by name.
        rivals: for their accuracies; those that are not among the opponents have no turn.
        amount: how much.
    """
    size = setting.batch_size
    batches = [task.images[at : at + size] for at in range(0, len(task.images) - size + 1, size)]
    num_exits = engine.backend.facts.num_exits
    single = [FusedStage(k, k) for k in range(num_exits)]
    plans = [engine.plan(policy) for policy in task.policies]
    backend = WithUncut(engine.backend, opponents[ALL_EXITS].run)
    chains = [[*single, backend.uncut_stage], *(plan.stages for plan in plans)]

    def stage_turn() -> list[StageTimes]:
        # Each chain by itself, so that a stage finds in the cache what it finds there in a call, no less and no more.
        return [measure_stages(backend, chain, [size]) for chain in chains]

    whole = _whole(engine, size)

    def turns(timed: Sequence[Images], as_trained: int) -> dict[Any, Turn]:
        found: dict[Any, Turn] = {_WHOLE: partial(seconds_of_calls, whole, timed)}
        for name, opponent in opponents.items():
            answered = timed[:as_trained] if name == TRAINED else timed
            found[name] = partial(seconds_of_calls, opponent.run, _shaped(answered, opponent.shape))
        for number, policy in enumerate(task.policies):
            found[number, CALL] = partial(seconds_of_calls, partial(engine, policy=policy), timed)
            if size > 1:
                found[number, STREAM] = partial(_seconds_of_stream, engine, policy, size, timed)
        return found

    few = [batches[number % len(batches)] for number in range(WARM_UP)]
    count, as_trained = affordable(turns(few, WARM_UP), stage_turn, len(batches), amount)
    images = count * size
    contest: dict[Any, Callable[[], Any]] = {**turns(batches[:count], as_trained), _STAGES: stage_turn}
    tick = None if amount.tick is None else partial(amount.tick, amount.rounds * len(contest))
    measured = take_turns(contest, amount.rounds, tick)
    cut, *own = (
        {stage: float(np.median([times[i].of(stage, size) for times in measured[_STAGES]])) / size for stage in chain}
        for i, chain in enumerate(chains)
    )
    timings = {
        name: Pace.of(seconds, as_trained * size if name == TRAINED else images)
        for name, seconds in measured.items()
        if name != _STAGES
    }
    costs = measure_costs(task.network)
    table = costs.table("macs")
    macs = table.cumulative()
    is_lazy = any(getattr(module, "lazy", False) for module in task.network.modules())
    whole_macs = costs.lazy_macs_per_exit_alone[-1]
    policies = []
    for number, (policy, plan, times) in enumerate(zip(task.policies, plans, own, strict=True)):
        exits = answers.exits[number][:images]
        policies.append(
            PolicyTimes(
                name=policy_name(policy, number + 1),
                predicted=predicted_share(policy),
                macs=float((macs[exits] + answers.of_parts(number, table.parts)[:images]).mean() / macs[-1]),
                ideal=ideal_time(times, plan.stages, exits),
                measured={way: timings[number, way] for way in (CALL, STREAM) if (number, way) in timings},
                answered=answers.worth[number],
                exit_shares=np.bincount(exits, minlength=num_exits) / images,
            )
        )
    return SettingTimes(
        setting=setting,
        images=images,
        whole_macs=whole_macs / macs[-1],
        trained_macs=(whole_macs if is_lazy else costs.macs_per_exit_alone[-1]) / macs[-1],
        trained=timings[TRAINED],
        whole=timings[_WHOLE],
        all_exits=timings[ALL_EXITS],
        stages=np.array([cut[stage] for stage in single]),
        stages_uncut=cut[backend.uncut_stage],
        policies=policies,
        rivals=[RivalTimes(r.name, r.accuracy, r.shape, timings[r.name]) for r in rivals if r.name in timings],
        last_exit=answers.last_exit,
    )


def _check_size(engine: EarlyExitEngine, setting: Setting, images: int) -> None:
    size, allowed = setting.batch_size, engine.backend.fixed_sizes
    if images < size:
        raise UserError(f"batch_sizes={size} is more than the {images} images; take more images, or smaller batches.")
    if allowed is not None and size not in allowed:
        raise UserError(
            f"batch_sizes={size} must be one of {', '.join(map(str, allowed))}, which {setting.backend} computes here."
        )


def _whole(engine: EarlyExitEngine, size: int) -> Callable[[Images], Any]:
    """The network as one fused stage in the engine's backend, with nothing around it but the class of each image."""
    backend = engine.backend
    stage = FusedStage(0, backend.facts.num_exits - 1)
    buffer = backend.buffer(stage, size)
    backend.prepare(stage, buffer)

    def run(images: Images) -> Any:
        backend.copy_rows((images,), None, buffer, 0)
        return backend.run(stage, buffer, len(images))[0].argmax(axis=-1)

    return run


def _seconds_of_stream(
    engine: EarlyExitEngine, policy: ExitPolicy, size: int, batches: Sequence[Images]
) -> list[float]:
    """Seconds of the steps of a stream: up to its asking for the first batch, for the next ones, and to its end."""
    moments = [perf_counter()]

    def given() -> Iterator[Images]:
        for batch in batches:
            moments.append(perf_counter())
            yield batch
        moments.append(perf_counter())

    for _ in engine.stream(given(), batch_size=size, policy=policy):
        pass
    return np.diff([*moments, perf_counter()]).tolist()


def _shaped(batches: Sequence[Images], shape: tuple[int, ...]) -> Sequence[Images]:
    """The batches, or as many of random images where images of another shape are needed."""
    if batches[0].shape[1:] == shape:
        return batches
    return [np.random.default_rng(0).standard_normal((len(batches[0]), *shape), dtype=np.float32)] * len(batches)
