"""Measuring whether early exit pays: the engine against the same network whole, as trained, and against rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from time import perf_counter
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from ranet.calibration import ExitPolicy
from ranet.cost import measure_costs
from ranet.errors import UserError
from ranet.inference.backend import Precision
from ranet.inference.benchmark_answers import EngineAnswers, Images, Reference, Task, answer_all
from ranet.inference.benchmark_results import (
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
from ranet.inference.benchmark_timing import Pace, seconds_of_calls, take_turns
from ranet.inference.engine import EarlyExitEngine
from ranet.inference.fused_stages import FusedStage
from ranet.inference.opponents import ALL_EXITS, TRAINED, Opponent, Opponents
from ranet.inference.rivals import Rival, check_rivals
from ranet.inference.stage_times import StageTimes, measure_stages
from ranet.inference.uncut import Run, Runtime

#: Batches by which everything is warmed up; the last of them says how long a round will take.
WARM_UP = 3
_WHOLE, _STAGES = "whole", "stages"
Turn = Callable[[], list[float]]


class Amount(NamedTuple):
    """How much is measured.

    Attributes:
        rounds: how often everything has its turn.
        seconds: about how long the turns in one setting take together; None: every round answers all images.
        tick: called after every turn, with the number of turns in the setting.
    """

    rounds: int = 5
    seconds: float | None = 30.0
    tick: Callable[[int], None] | None = None


def all_settings(backends: Sequence[str], precisions: Sequence[str], batch_sizes: Sequence[int]) -> list[Setting]:
    """Every combination that is possible: ONNX Runtime computes in float32 alone.

    Example:
        >>> [str(setting) for setting in all_settings(["torch", "onnxruntime"], ["float32", "bfloat16"], [1])]
        ['batch 1 in torch float32', 'batch 1 in torch bfloat16', 'batch 1 in onnxruntime float32']
    """
    return [
        Setting(*each) for each in product(backends, precisions, batch_sizes) if each[:2] != ("onnxruntime", "bfloat16")
    ]


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
        threads: processor threads for one operator; None leaves it to the runtimes.
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
                batch_sizes=sizes,
            )
        _check_size(engines[runtime], setting, len(task.images))
    # Only now, when all that can be wrong with the settings has been said, does it take time.
    opponents = Opponents(task.network, rivals)
    for runtime, engine in engines.items():
        engine.prepare()
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
    stages = list(dict.fromkeys([*single, *(stage for plan in plans for stage in plan.stages)]))

    def stage_turn() -> StageTimes:
        return measure_stages(engine.backend, stages, [size])

    whole = _whole(engine, size)

    def turns(timed: Sequence[Images]) -> dict[Any, Turn]:
        found: dict[Any, Turn] = {_WHOLE: partial(seconds_of_calls, whole, timed)}
        for name, opponent in opponents.items():
            found[name] = partial(seconds_of_calls, opponent.run, _sized(timed, opponent.image_size))
        for number, policy in enumerate(task.policies):
            found[number, CALL] = partial(seconds_of_calls, partial(engine, policy=policy), timed)
            if size > 1:
                found[number, STREAM] = partial(_seconds_of_stream, engine, policy, size, timed)
        return found

    count = _affordable(turns, stage_turn, batches, amount)
    images = count * size
    contest: dict[Any, Callable[[], Any]] = {**turns(batches[:count]), _STAGES: stage_turn}
    tick = None if amount.tick is None else partial(amount.tick, amount.rounds * len(contest))
    measured = take_turns(contest, amount.rounds, tick)
    own = {stage: float(np.median([times.of(stage, size) for times in measured[_STAGES]])) / size for stage in stages}
    timings = {name: Pace.of(seconds, images) for name, seconds in measured.items() if name != _STAGES}
    costs = measure_costs(task.network, task.network.image_size)
    macs = np.asarray(costs.macs_per_exit, dtype=np.float64)
    policies = []
    for number, (policy, plan) in enumerate(zip(task.policies, plans, strict=True)):
        exits = answers.exits[number][:images]
        policies.append(
            PolicyTimes(
                name=policy_name(policy, number + 1),
                predicted=predicted_share(policy),
                macs=float(macs[exits].mean() / macs[-1]),
                ideal=ideal_time(own, plan.stages, exits),
                measured={way: timings[number, way] for way in (CALL, STREAM) if (number, way) in timings},
                answered=answers.worth[number],
                exit_shares=np.bincount(exits, minlength=num_exits) / images,
            )
        )
    return SettingTimes(
        setting=setting,
        images=images,
        whole_macs=costs.macs_per_exit_alone[-1] / costs.macs_per_exit[-1],
        trained=timings[TRAINED],
        whole=timings[_WHOLE],
        all_exits=timings[ALL_EXITS],
        stages=np.array([own[stage] for stage in single]),
        policies=policies,
        rivals=[RivalTimes(r.name, r.accuracy, r.image_size, timings[r.name]) for r in rivals if r.name in timings],
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


def _affordable(
    turns: Callable[[Sequence[Images]], Mapping[Any, Turn]],
    stage_turn: Callable[[], object],
    batches: Sequence[Images],
    amount: Amount,
) -> int:
    """How many batches a round can answer within the time, at least one; warms everything up."""
    few = [batches[number % len(batches)] for number in range(WARM_UP)]
    calls = [turn() for turn in turns(few).values()]
    if amount.seconds is None:
        return len(batches)
    # A stream does the last of its work after the last batch.
    for_batch = sum(seconds[-1] if len(seconds) == WARM_UP else sum(seconds) / WARM_UP for seconds in calls)
    for_stages = sum(seconds_of_calls(lambda _: stage_turn(), [None]))
    return min(len(batches), max(1, int((amount.seconds / amount.rounds - for_stages) / for_batch)))


def _whole(engine: EarlyExitEngine, size: int) -> Run:
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


def _sized(batches: Sequence[Images], image_size: int) -> Sequence[Images]:
    """The batches, or as many of random images where images of another size are needed."""
    if batches[0].shape[-1] == image_size:
        return batches
    shape = (len(batches[0]), 3, image_size, image_size)
    return [np.random.default_rng(0).standard_normal(shape, dtype=np.float32)] * len(batches)
