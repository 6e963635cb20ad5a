"""A policy as the engine follows it: which fused stages run, and which images leave behind each.

Batches, single images, deadlines and streams all decide by `leaving`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isnan

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.scores.in_numpy import Floats, Runs, exit_scores
from ranet.cost.table import CostTable
from ranet.errors import UserError
from ranet.inference.runtimes.backend import NetworkFacts
from ranet.inference.stages.fused_stages import FusedStage, used_exits

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Step:
    """A fused stage and what happens behind it.

    Attributes:
        stage: what runs.
        looks: whether the policy uses its exit; it does not at a cut that only an exported folder has.
        threshold: images whose score reaches it leave; minus infinity at the last step.
        temperature: of the exit.
    """

    stage: FusedStage
    looks: bool
    threshold: np.float32
    temperature: float


@dataclass(frozen=True, eq=False)
class Plan:
    """The steps by which an engine follows a policy.

    Attributes:
        policy: the policy.
        steps: in order; all images that are left leave behind the last.
        temperatures: (K,) float32, of all exits; None where the policy has none.
        cost_per_exit: (K,) cost of an image by its exit, without optional parts.
        part_costs: (P,) additional cost of each optional part that an image has executed.
        unit: of the costs.
    """

    policy: ExitPolicy
    steps: tuple[Step, ...]
    temperatures: npt.NDArray[np.float32] | None
    cost_per_exit: npt.NDArray[np.float64]
    part_costs: npt.NDArray[np.float64]
    unit: str

    @property
    def stages(self) -> list[FusedStage]:
        """The fused stages of the steps."""
        return [step.stage for step in self.steps]


def leaving(step: Step, score: str, logits: Floats, before: Runs | None) -> tuple[Indices, Indices, Runs | None]:
    """Decide which images of a batch with logits (B, C) leave behind a step that looks at its exit.

    An image leaves if its score reaches the threshold; an image without a finite score goes on. ``before`` are the runs
    up to the exit before, for patience.

    Returns:
        The rows of the images that leave, the rows of those that go on, and the runs of these.

    Example:
        >>> step = Step(FusedStage(0, 0), True, np.float32(0.9), 1.0)
        >>> leaving(step, "confidence", np.float32([[9, 0], [0, 0]]), None)
        (array([0]), array([1]), None)
    """
    scores, runs = exit_scores(logits, score, step.temperature, before)
    leaves = scores >= step.threshold
    (out,), (stay,) = leaves.nonzero(), (~leaves).nonzero()
    return (out, stay, None if runs is None else Runs(runs.labels[stay], runs.lengths[stay]))


def make_plan(
    policy: ExitPolicy,
    max_exit: int | None,
    facts: NetworkFacts,
    stages_for: Callable[[Sequence[int]], list[FusedStage]],
    costs: Callable[[], CostTable],
) -> Plan:
    """Return the plan by which a network follows a policy, with the network's costs where the policy holds none.

    No image goes behind ``max_exit`` (from 0), or where no fused stage ends there, behind the deepest exit before it.

    Raises:
        UserError: if the policy is for another network, or there is no such exit.
    """
    policy.require_exits(facts.num_exits)
    policy.require_network(facts.fingerprint)
    deepest = None
    if max_exit is not None:
        if not isinstance(max_exit, int) or isinstance(max_exit, bool) or not 0 <= max_exit < facts.num_exits:
            raise UserError(f"max_exit={max_exit} must be one of the exits 0 to {facts.num_exits - 1}.")
        reachable = [cut for cut in facts.cuts if cut <= max_exit]
        if not reachable:
            raise UserError(
                f"No exported stage ends at exit {max_exit + 1} or before: the first is exit {facts.cuts[0] + 1}; "
                "export all exits to cap the cost there."
            )
        deepest = reachable[-1]
    looked_at = used_exits(policy, deepest)
    temperatures = None if policy.temperatures is None else np.array(policy.temperatures, dtype=np.float32)
    thresholds = (*policy.thresholds, -inf)
    steps = tuple(
        Step(
            stage,
            looks=stage.last in looked_at,
            threshold=np.float32(-inf if stage.last == looked_at[-1] else thresholds[stage.last]),
            temperature=1.0 if policy.temperatures is None else policy.temperatures[stage.last],
        )
        for stage in stages_for(looked_at)
    )
    known = policy.promise
    if known.cost_per_exit is None or "unit" not in policy.metadata:
        table = costs()
        return Plan(policy, steps, temperatures, table.cumulative(), table.parts, table.unit)
    parts = known.part_costs if len(known.part_costs) else np.zeros(len(facts.optional_parts))
    return Plan(policy, steps, temperatures, known.cost_per_exit, parts, known.unit)


def policy_for_budget(policies: Sequence[ExitPolicy], budget: float, unit: str) -> ExitPolicy:
    """Return the policy with the largest predicted mean cost of an image within a budget, in their unit.

    Raises:
        UserError: if none keeps within the budget, or one has no prediction (`ranet.calibrate` gives it).

    Example:
        >>> cheap, dear = (ExitPolicy((0.5,), metadata={"predicted": {"cost": cost}}) for cost in (3.0, 5.0))
        >>> policy_for_budget([cheap, dear], 4.0, "ms") is cheap
        True
    """
    costs = [policy.promise.cost for policy in policies]
    if any(map(isnan, costs)):
        raise UserError("A budget chooses among policies that say what they cost: solve them with ranet calibrate.")
    within = [(cost, i) for i, cost in enumerate(costs) if cost <= budget]
    if not within:
        raise UserError(
            f"No policy keeps within a budget of {_cost(budget)} {unit}: the cheapest costs {_cost(min(costs))} on "
            "average; calibrate one for this budget."
        )
    return policies[max(within)[1]]


def _cost(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
