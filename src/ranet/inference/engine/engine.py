"""The early-exit engine: images whose answer is sure enough leave the batch, which saves time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranet.calibration.policies.exit_policy import ExitPolicy, given_policies, load_policy
from ranet.errors import UserError
from ranet.inference.choosing.open_backend import open_network
from ranet.inference.engine.answers import Answers
from ranet.inference.engine.batches import answer_batch, answer_within
from ranet.inference.engine.one_image import answer_one
from ranet.inference.engine.plan import Plan, make_plan, policy_for_budget
from ranet.inference.engine.stream import stream
from ranet.inference.images.checked import checked_images
from ranet.inference.runtimes.backend import LARGEST_BATCH, Backend, Precision, Runtime, State, largest_size, sized
from ranet.inference.runtimes.stage_times import SIZES, StageTimes, measure_stages
from ranet.inference.stages.fused_stages import FusedStage
from ranet.support.numbers import require_count, require_counts, require_positive

if TYPE_CHECKING:
    import torch

    from ranet.models.staged import StagedNetwork

#: Batch size of a stream before stages are measured: it fills the vector units, and its states fit the cache.
STREAM_SIZE = 32


class EarlyExitEngine:
    """Answer images with a multi-exit network, and stop early for real.

    Behind every exit that the policy uses, the images that are sure enough leave the batch; the state of the others is
    compacted where that pays, and they go on. Stages between exits that the policy does not use run as one graph,
    without their heads. The answers are those of the policy replayed on the logits of all exits, to rounding.

    An engine belongs to one thread at a time; calls from others wait.

    Args:
        network: a network, or the folder of an exported one (`ranet.export_engine`), which needs no PyTorch.
        policy: a policy, its file, or several of either, among which a budget chooses; None for an exported folder's
            own.
        backend: "torch", "onnxruntime", "openvino", or "auto": the fastest that is installed and can run the
            network, over single images and batches of 32, measured once for each network and machine, and remembered.
        device: for PyTorch, such as "cpu" or "cuda"; by default where the network is.
        precision: "float32" or "bfloat16", of the computation and the states. Bfloat16 changes some answers: `ranet
            bench` says how many.
        threads: processor threads for one operator; None: one for each core that this process may use. For PyTorch
            it holds for the whole process, and None leaves it as it is.
        batch_sizes: the batch sizes that OpenVINO compiles, each when it is first needed; a batch of another size is
            padded to the next. The other backends compute batches of any size.
        cache: folder of graphs and measurements; None: $RANET_CACHE, or else ~/.cache/ranet.

    Attributes:
        backend: the runtime.
        policies: all policies.
        unit: of the costs in the answers: that of the policies, else "macs".
        classes: as in `ranet.inference.ExportedFolder`; None for a network.
        preprocessing: as in `ranet.inference.ExportedFolder`, a function from an image (`PIL.Image`) to the network's
            input (C, H, W); None for a network.

    Raises:
        UserError: if network, policy, backend, device and precision do not go together, or a package is missing.

    Example:
        >>> import numpy as np
        >>> from ranet import create_network
        >>> network = create_network("msdnet_tiny").eval()
        >>> engine = EarlyExitEngine(network, ExitPolicy((0.11,) * 4), backend="torch")
        >>> answers = engine(np.zeros((3, 3, 32, 32), dtype=np.float32))
        >>> len(answers), answers.probabilities.shape, answers.unit
        (3, (3, 10), 'macs')
    """

    def __init__(
        self,
        network: StagedNetwork | str | Path,
        policy: ExitPolicy | str | Path | Sequence[ExitPolicy | str | Path] | None = None,
        backend: str = "auto",
        *,
        device: torch.device | str | None = None,
        precision: Precision = "float32",
        threads: int | None = None,
        batch_sizes: Sequence[int] | None = None,
        cache: str | Path | None = None,
    ) -> None:
        given = None if policy is None else given_policies(policy)
        if given == [] or (given is None and not isinstance(network, str | Path)):
            raise UserError("An engine needs a policy, which decides where images leave; ranet calibrate solves one.")
        opened = open_network(network, Runtime(backend, device, precision, threads, batch_sizes, cache))
        self.backend: Backend = opened.backend
        self.classes = opened.classes
        self.preprocessing = opened.preprocessing
        self._stages_for = opened.stages_for
        self._costs = opened.costs
        self.policies = list(opened.policies) if given is None else given
        self._lock = threading.RLock()
        self._buffers: dict[tuple[FusedStage, int], State] = {}
        self._times: StageTimes | None = None
        self._plans: dict[tuple[int, int | None], Plan] = {}
        self.unit, *others = dict.fromkeys(self.plan(each).unit for each in self.policies)
        if others:
            raise UserError(
                f"The policies of an engine must be in one unit, and these are in {self.unit} and {others[0]}."
            )

    def __call__(
        self,
        images: Any,
        *,
        policy: ExitPolicy | str | Path | None = None,
        budget: float | None = None,
        max_exit: int | None = None,
        deadline: float | None = None,
    ) -> Answers:
        """Answer images.

        Args:
            images: (N, C, H, W) floats, normalised as for training, any N; an array or a tensor.
            policy: another than the engine's first; changing it costs nothing but the graphs that it needs.
            budget: choose, among the engine's policies, the best that costs at most this on average, in their unit.
            max_exit: the deepest exit that may answer, from 0: no image, however hostile, costs more than that exit.
            deadline: milliseconds from now within which to answer. All images are answered at the first exit; then
                they go on, exit by exit, while the next fused stage is expected to be done in time (by its 95th
                percentile), and images leave where the policy lets them. Stages that are not measured yet are measured
                first, which takes seconds and does not count: call `prepare` beforehand.

        Raises:
            UserError: for images of another shape or type or with NaN, a policy of another network, a budget that no
                policy meets.
        """
        given = checked_images(images, self.backend.facts.input_shape, self.backend.device)
        if deadline is not None:
            deadline = require_positive("deadline", deadline, " of milliseconds")
        with self._lock:
            plan = self.plan(policy, budget, max_exit)
            if deadline is not None:
                times = self._measured([plan.stages])
                return answer_within(deadline, plan, given, self.backend, times, self._buffer)
            if len(given) > largest_size(self.backend.fixed_sizes, LARGEST_BATCH):
                (answers,) = stream(self.backend, plan, [given], self.stream_size(plan))
                return answers
            if len(given) == 1:
                return answer_one(plan, given, self.backend, self._buffer(plan.steps[0].stage, sized(self.backend, 1)))
            return answer_batch(plan, given, self.backend, self._buffer, self._compaction_pays)

    def stream(
        self,
        batches: Iterable[Any],
        *,
        batch_size: int | None = None,
        policy: ExitPolicy | str | Path | None = None,
        budget: float | None = None,
        max_exit: int | None = None,
    ) -> Iterator[Answers]:
        """Answer batches one after another, with full batches at every stage.

        What goes on behind an exit waits there until ``batch_size`` images, of whatever batches, are together; the
        deepest full queue runs first. Memory is bounded: one buffer for each stage, and the answers of a few thousand
        images that wait for others (`ranet.inference.engine.stream.MOST_WAITING`).

        Args:
            batches: of images as for a call, of any sizes; read as they are needed.
            batch_size: of every stage; by default `stream_size`.
            policy: as for a call, like budget and max_exit.
            budget: see policy.
            max_exit: see policy.

        Yields:
            The answers to each batch, in order. Those to an invalid batch have ``error`` set and no rows.
        """
        with self._lock:
            plan = self.plan(policy, budget, max_exit)
            size = self.stream_size(plan) if batch_size is None else self._allowed_size(batch_size)
        return stream(self.backend, plan, batches, size, self._lock)

    def plan(
        self, policy: ExitPolicy | str | Path | None = None, budget: float | None = None, max_exit: int | None = None
    ) -> Plan:
        """Return the steps that a call with these arguments takes."""
        if policy is not None and budget is not None:
            raise UserError("Say the policy or the budget, not both.")
        if budget is not None:
            budget = require_positive("budget", budget, ", the mean cost of an image in the policies' unit")
            policy = policy_for_budget(self.policies, budget, self.unit)
        if isinstance(policy, str | Path):
            policy = load_policy(policy)
        if not isinstance(policy, ExitPolicy | None):
            raise UserError(f"policy={policy} must be an ExitPolicy or the file of one.")
        chosen = self.policies[0] if policy is None else policy
        key = (id(chosen), max_exit)
        plan = self._plans.get(key)
        if plan is None or plan.policy is not chosen:  # another may live where one has died
            plan = make_plan(chosen, max_exit, self.backend.facts, self._stages_for, self._costs)
            if len(self._plans) >= 256:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def prepare(self, sizes: Sequence[int] | None = None, *, max_exit: int | None = None) -> StageTimes:
        """Compile and measure what the policies need, so that the first call is as fast as any later one.

        From then on the engine compacts a batch only where the measurements say that it pays, and a stream has the
        batch size that they found to be the fastest.

        Args:
            sizes: batch sizes; by default all of the backend's, or powers of two up to 64.
            max_exit: prepare for calls with this cap, too.
        """
        if sizes is not None:
            fixed = self.backend.fixed_sizes
            # The smallest and the largest, too: between two measured sizes the engine can tell, beyond them it cannot.
            ends = (1, LARGEST_BATCH) if fixed is None else (fixed[0], fixed[-1])
            sizes = sorted({*(sized(self.backend, size) for size in require_counts("sizes", sizes)), *ends})
        with self._lock:
            plans = [self.plan(each, max_exit=cap) for each in self.policies for cap in {None, max_exit}]
            return self._measured([plan.stages for plan in plans], sizes)

    def stream_size(self, plan: Plan | None = None) -> int:
        """Return the batch size of a stream: the one with the least time for an image, once `prepare` has measured it.

        Before that it is `STREAM_SIZE`, or the largest size of the backend that is no larger.
        """
        stages = (plan or self.plan()).stages
        if self._times is not None and all(stage in self._times.curves for stage in stages):
            return self._times.best_size(stages)
        fixed = self.backend.fixed_sizes
        return STREAM_SIZE if fixed is None else max([size for size in fixed if size <= STREAM_SIZE] or fixed[:1])

    def _allowed_size(self, size: int) -> int:
        fixed = self.backend.fixed_sizes
        require_count("batch_size", size)
        if fixed is not None and size not in fixed:
            raise UserError(
                f"batch_size={size} must be one of the sizes that are compiled, {', '.join(map(str, fixed))}; make the "
                "engine with batch_sizes=[...]."
            )
        return size

    def _measured(self, chains: Sequence[Sequence[FusedStage]], sizes: Sequence[int] | None = None) -> StageTimes:
        """Return the times of the stages of these chains; other sizes than before measure everything again."""
        known = self._times
        if known is None or (sizes is not None and tuple(sizes) != known.sizes):
            known = StageTimes(tuple(sizes or self.backend.fixed_sizes or SIZES), {})
        new: list[Sequence[FusedStage]] = []
        have = set(known.curves)
        for chain in chains:
            if not have.issuperset(chain):
                new.append(chain)
                have.update(chain)
        if new:
            known = known.including(measure_stages(self.backend, new, known.sizes))
        self._times = known
        return known

    def _buffer(self, stage: FusedStage, size: int) -> State:
        """Return the engine's own buffer for a stage and a batch size."""
        buffer = self._buffers.get((stage, size))
        if buffer is None:
            if self.backend.fixed_sizes is None:
                # Any size is possible: part of one that has room for all.
                largest = self._buffers.get((stage, -1))
                if largest is None:
                    largest = self._buffers[stage, -1] = self.backend.buffer(stage, LARGEST_BATCH)
                buffer = tuple(array[:size] for array in largest)
            else:
                buffer = self.backend.buffer(stage, size)
            self._buffers[stage, size] = buffer
        return buffer

    def _compaction_pays(self, stage: FusedStage, before: int, after: int) -> bool:
        if self._times is not None and stage in self._times.curves:
            return self._times.compaction_pays(stage, before, after, self.backend)
        return sized(self.backend, after) < sized(self.backend, before)
