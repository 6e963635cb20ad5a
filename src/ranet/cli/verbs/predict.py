"""ranet predict: classify images with early exits, one row for each image."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig

from ranet.cli.options.shared import is_number, parse_share, read_policies
from ranet.cli.outputs.prediction_origin import chunk_ends, origin_of
from ranet.errors import UserError
from ranet.images.many import ahead
from ranet.images.preprocessing import Prepares
from ranet.inference.engine.engine import EarlyExitEngine
from ranet.inference.engine.plan import Plan
from ranet.inference.images.files import ImageArray, ImageFiles, ReadImage, default_readers, open_images
from ranet.inference.predictions.file import STANDARD_OUTPUT, PredictionTable, open_table
from ranet.inference.runtimes.openvino_backend import BATCH_SIZES
from ranet.support.hardware import limit_threads
from ranet.support.progress import Bar

_BROKEN_PIPE = 141  # as a shell says of a program that wrote to one
_OVERFLOW = "has no answer: its logits are too large for a probability; look at its pixels and at the weights"


@dataclass
class Tally:
    """Counts of the images of a run."""

    exits: npt.NDArray[np.int64]  # (K,) how many images left at each exit
    cost: float = 0.0  # of all images together
    without_row: list[str] = field(default_factory=list)  # a sentence about each image that has no answer
    before: int = 0  # images that an earlier run has answered
    seconds: float = 0.0  # from the first image read to the last row written, in this run

    @property
    def answered(self) -> int:
        """The number of answered images."""
        return int(self.exits.sum())


def run(config: DictConfig) -> None:
    """Answer images, as the configuration says."""
    try:
        with Bar("Opening the engine"):
            engine, source, preprocessing, classes = _open(config)
        budget, cap = _budget(config.budget, engine), _cap(config.max_exit, engine)
        plan = engine.plan(budget=budget, max_exit=cap)  # also a mistake's last chance before anything is written
        skipped = f"Skipped: {source.skipped}." if source.skipped else None
        for notice in (skipped, measured_elsewhere(plan, engine, config.batch_size), unlikely(source)):
            if notice is not None:
                print(f"ranet: {notice}", file=sys.stderr)
        to_file = config.output != STANDARD_OUTPUT
        deciding = {"batch_size": config.batch_size, "max_exit": config.max_exit}
        origin = origin_of(engine, plan, source, preprocessing, classes, **deciding) if to_file else None
        with open_table(config.output, plan.unit, classes, origin, config.resume) as table:
            tally = answer(engine, source, preprocessing, table, config, budget=budget, max_exit=cap)
        if tally.answered:
            # Standard output is for the rows alone.
            print(summary(tally, plan.cost_per_exit, plan.unit), file=sys.stdout if to_file else sys.stderr)
            if to_file:
                print(f"Written to {config.output}")
    except BrokenPipeError:
        # The reader of the rows, such as head, has closed the pipe; buffered rows are dropped.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(_BROKEN_PIPE) from None
    for sentence in (*source.left_out, *tally.without_row):
        print(f"ranet: {sentence}", file=sys.stderr)
    missing = [f"{len(tally.without_row):,} of {len(source):,} images"] if tally.without_row else []
    if source.left_out:
        count = len(source.left_out)
        missing.append("all images of " + ("a folder" if count == 1 else f"{count:,} folders"))
    if missing:
        others = "; the others were answered" if tally.answered else ""
        raise UserError(f"{' and '.join(missing)} could not be answered and have no row{others}.")


def answer(
    engine: EarlyExitEngine,
    source: ImageFiles | ImageArray,
    preprocessing: Prepares,
    table: PredictionTable,
    config: DictConfig,
    **how: Any,
) -> Tally:
    """Run all images through the engine, and write a row for each that can be read and has a finite answer."""
    tally, done = _tally_before(table.states, engine.backend.facts.num_exits), table.done
    size = _stream_size(config.batch_size, len(source), engine)
    names: deque[list[str]] = deque()
    start = perf_counter()
    rows_are_seen = config.output == STANDARD_OUTPUT and sys.stdout.isatty()
    # What becomes of an overflow is said below.
    with Bar("Answering images", hidden=rows_are_seen) as shown, np.errstate(over="ignore", invalid="ignore"):
        shown(done, len(source))
        rest = range(done, len(source))
        images = ahead(lambda index: source.read(index, preprocessing), rest, default_readers())
        # A stream ends with each chunk, so that a later run, which begins with one, computes the same batches.
        for end in chunk_ends(done, len(source), size):
            said = len(tally.without_row)
            batches = _batches(islice(images, end - done), size, names, tally, lambda: shown.step(len(source)))
            for answers in engine.stream(batches, batch_size=size, **how):
                if answers.error is not None:
                    raise answers.error
                called, finite = names.popleft(), np.isfinite(answers.confidences)
                if not finite.all():
                    tally.without_row += [source.sentence_about(called[i], _OVERFLOW) for i in np.flatnonzero(~finite)]
                    called, answers = [called[i] for i in np.flatnonzero(finite)], answers.rows(finite)
                table.write(called, answers)
                tally.exits += np.bincount(answers.exits, minlength=len(tally.exits))
                tally.cost += float(answers.costs.sum())
            done = end
            table.mark(
                done, {"exits": tally.exits.tolist(), "cost": tally.cost, "without_row": tally.without_row[said:]}
            )
    tally.seconds = perf_counter() - start
    return tally


def _tally_before(states: Sequence[dict[str, Any]], num_exits: int) -> Tally:
    """Return the counts that an earlier run has stored."""
    tally = Tally(np.zeros(num_exits, dtype=np.int64))
    if states:
        tally.exits[:], tally.cost = states[-1]["exits"], states[-1]["cost"]
        tally.without_row = [sentence for state in states for sentence in state["without_row"]]
        tally.before = tally.answered
    return tally


def measured_elsewhere(plan: Plan, engine: EarlyExitEngine, batch_size: int) -> str | None:
    """Return a sentence if the milliseconds of a policy are not those of this engine and batch size; else None."""
    latency = plan.policy.metadata.get("latency")
    if plan.unit != "ms" or not isinstance(latency, dict):
        return None
    here = {"backend": engine.backend.name, "precision": engine.backend.precision, "batch_size": batch_size}
    there = {name: latency.get(name) for name in here}
    if here == there:
        return None
    options = " ".join(f"{name}={value}" for name, value in there.items())
    return f"The policy's milliseconds were measured with {options}; here images take other times than the costs say."


def unlikely(source: ImageFiles | ImageArray) -> str | None:
    """Return a sentence if an array of floats does not look normalised; else None."""
    if isinstance(source, ImageFiles) or source.images.dtype == np.uint8 or (source.images[:256] < 0).any():
        return None
    return (
        f"No value of the first images in {source.path} is below 0, so they may not be normalised: subtract the mean "
        "and divide by the standard deviation of the training data, or give pixels as uint8."
    )


def summary(tally: Tally, cost_per_exit: npt.NDArray[np.float64], unit: str) -> str:
    """Return a sentence about the images that were answered."""
    count, mean = tally.answered, tally.cost / tally.answered
    here = count - tally.before
    earlier = f", {tally.before:,} of them before, the others" if tally.before else ""
    cost = f"{f'{mean:,.0f}' if mean >= 1000 else f'{mean:.4g}'} {unit}".strip()
    left = ", ".join(f"{number / count:.1%} at exit {k}" for k, number in enumerate(tally.exits.tolist(), 1) if number)
    return (
        f"{count:,} images answered{earlier} in {tally.seconds:.1f} s ({here / tally.seconds:,.0f} images/s) at a mean "
        f"cost of {cost} ({mean / cost_per_exit[-1]:.1%} of the last exit's); left {left}."
    )


def _open(config: DictConfig) -> tuple[EarlyExitEngine, ImageFiles | ImageArray, Prepares, tuple[str, ...] | None]:
    """Return the engine, the images, their preprocessing, and the names of the classes."""
    options = {
        "backend": config.backend,
        "precision": config.precision,
        "threads": config.threads,
        "batch_sizes": compiled_sizes(config.batch_size, config.backend),
    }
    policies = None if config.policy is None else read_policies(config.policy)
    images = config.images if isinstance(config.images, str) else list(config.images)
    if config.engine is not None:
        engine = EarlyExitEngine(Path(config.engine), policies, **options)
        if engine.preprocessing is None:
            raise UserError(
                f"{config.engine} does not say how images become what the network reads; export it again with ranet "
                "export."
            )
        return engine, open_images(images, engine.preprocessing), engine.preprocessing, engine.classes
    # Only here: with an exported folder PyTorch need not be installed.
    from ranet.cli.inputs.network_alone import load_network_alone
    from ranet.cli.inputs.trained import evaluation_device

    limit_threads()
    alone = load_network_alone(config)
    source = open_images(images, alone.preprocessing)
    device = config.device or (evaluation_device() if config.backend in ("auto", "torch") else "cpu")
    engine = EarlyExitEngine(alone.trained.network, policies, device=device, **options)
    return engine, source, alone.preprocessing, alone.classes


def compiled_sizes(batch_size: int, backend: str) -> list[int] | None:
    """Return the batch sizes that OpenVINO compiles, so that it computes batches of this size like other backends.

    These are the powers of two below the size, with which fewer images are computed, and the size itself; None if the
    backend's own sizes are these, or it computes batches of any size.

    Example:
        >>> compiled_sizes(48, "auto"), compiled_sizes(32, "auto"), compiled_sizes(48, "torch")
        ([1, 2, 4, 8, 16, 32, 48], None, None)
    """
    if batch_size in BATCH_SIZES or backend not in ("openvino", "auto"):
        return None
    return [*(2**power for power in range((batch_size - 1).bit_length())), batch_size]


def _stream_size(wanted: int, images: int, engine: EarlyExitEngine) -> int:
    """Return the batch size to compute: at most the number of images, and one that the backend has."""
    size = min(wanted, images)
    return next((fixed for fixed in engine.backend.fixed_sizes or () if fixed >= size), size)


def _budget(given: Any, engine: EarlyExitEngine) -> float | None:
    if given is None:
        return None
    share = parse_share(given)
    value = given if share is None else share
    if not is_number(value) or not 0 < value < float("inf"):
        raise UserError(f"budget={given} must be a positive number in the policies' unit, or a share such as 50%.")
    return float(value) * (1.0 if share is None else float(engine.plan().cost_per_exit[-1]))


def _cap(given: int | None, engine: EarlyExitEngine) -> int | None:
    """Return the deepest exit, counted from 0."""
    if given is None:
        return None
    if given > engine.backend.facts.num_exits:
        raise UserError(f"max_exit={given} must be one of the exits 1 to {engine.backend.facts.num_exits}.")
    return given - 1


def _batches(
    images: Iterator[ReadImage], size: int, names: deque[list[str]], tally: Tally, seen: Callable[[], None]
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield batches of the images that can be read; append names to ``names`` and errors to ``tally``."""
    batch: list[npt.NDArray[np.float32]] = []
    called: list[str] = []
    for image in images:
        seen()
        if image.pixels is None:
            assert image.error is not None
            tally.without_row.append(image.error)
            continue
        batch.append(image.pixels)
        called.append(image.name)
        if len(batch) == size:
            names.append(called)
            yield np.stack(batch)
            batch, called = [], []
    if batch:
        names.append(called)
        yield np.stack(batch)
