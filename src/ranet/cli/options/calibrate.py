"""Check of the options of ranet calibrate, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ranet.calibration.goals import BOUNDS, POLICIES, RISKS, Budget, BudgetAmount, Deadline, Goal, Risk, score_of
from ranet.calibration.scores.checks import SCORES
from ranet.cli.options.shared import UNITS as COUNTED
from ranet.cli.options.shared import check_checkpoint, check_source, is_number, parse_share
from ranet.errors import UserError, require_known, unknown_name
from ranet.inference.choosing.open_backend import BACKENDS
from ranet.inference.runtimes.backend import PRECISIONS
from ranet.support.numbers import require_count

UNITS = (*COUNTED, "ms", "fraction")
_GOALS = ("budget", "risk.eps", "deadline")


@dataclass(frozen=True)
class CostOptions:
    """What the options say of the costs of the exits."""

    given: tuple[float, ...] | None  # (K,) cumulative cost of each exit; None to count or measure them
    unit: str | None  # as asked for
    deadline: bool  # whether the goal is a deadline
    latency: str | None  # file of an earlier measurement
    # Of a new measurement, as far as it is given: batch_size, backend, precision, threads and device.
    setting: Mapping[str, Any]
    cache: str | None  # folder of what is measured once


class Asked(NamedTuple):
    """The goal of a calibration, and the costs in which it is stated."""

    goal: Goal
    costs: CostOptions


def check_options(config: DictConfig) -> Asked:
    """Refuse options that are invalid or have no effect, and return the others as typed values."""
    sentence = "Say what to calibrate: either checkpoint=RUN or scores=FILE.npz."
    check_source(config, "scores", sentence, "temperature_share", "model", "data", "cache")
    if not OmegaConf.is_dict(config.risk):
        raise UserError(f"risk={config.risk} has no effect; say the risk that is tolerated as risk.eps=, such as 0.01.")
    goals = [name for name in _GOALS if OmegaConf.select(config, name) is not None]
    if not goals:
        raise UserError("Say what the policy is for: one of budget=, risk.eps= and deadline= is needed.")
    if len(goals) > 1:
        raise UserError(f"Say only one of budget=, risk.eps= and deadline=, not {' and '.join(goals)}.")
    for name in ("risk.eps", "risk.delta", "deadline"):
        value = OmegaConf.select(config, name)
        if value is not None and not is_number(value):
            raise UserError(f"{name}={value} must be a number.")
    for name, choices in (("risk.of", RISKS), ("risk.bound", BOUNDS), ("policy", POLICIES)):
        require_known(name, OmegaConf.select(config, name), choices)
    for override in HydraConfig.get().overrides.task:
        if override.startswith("risk.") and goals != ["risk.eps"]:
            raise UserError(f"{override} has no effect without risk.eps=; remove it.")
    if not config.alternatives and goals != ["budget"]:
        raise UserError("alternatives=false is for a budget, and has no effect otherwise; remove it.")
    if config.policy != "geometric" and goals != ["budget"]:
        raise UserError(f"policy={config.policy} goes with a budget; remove it.")
    if config.score is not None:
        require_known("score", config.score, SCORES)
    if config.score is not None and goals == ["deadline"]:
        raise UserError("A deadline sends every image to one exit, whatever the score; remove score=.")
    if config.unit == "fraction" and goals != ["budget"]:
        raise UserError("unit=fraction applies only to budget=; remove it.")
    measured = ("batch_size", "backend", "precision", "threads", "device")
    setting = {name: config[name] for name in measured if config[name] is not None}
    costs = CostOptions(
        _given(config.cost), config.unit, config.deadline is not None, config.latency, setting, config.cache
    )
    _check_costs(costs, of_network=config.scores is None)
    share = config.temperature_share
    if not is_number(share) or not 0 <= share < 1:
        raise UserError(f"temperature_share={share} must be at least 0 and below 1.")
    if config.scores is None and config.test_scores is not None:
        raise UserError("test_scores= goes with scores=; with a checkpoint, say test=true.")
    if config.scores is not None and config.test:
        raise UserError("test=true goes with checkpoint=; for scores=, test_scores=FILE.npz alone is enough.")
    check_checkpoint(config.checkpoint)
    if config.budget is not None:
        score_of(config.policy, config.score)
        amounts = budget_amounts(config.budget, fraction=config.unit == "fraction")
        return Asked(Budget(amounts, config.policy, config.score, config.alternatives), costs)
    if config.deadline is not None:
        return Asked(Deadline(config.deadline), costs)
    return Asked(Risk(config.risk.eps, config.risk.delta, config.risk.of, config.risk.bound, config.score), costs)


def budget_amounts(asked: Any, *, fraction: bool = False) -> tuple[BudgetAmount, ...] | None:
    """Return the budgets of a number, "50%" as a share of the last exit's cost, or a list of these; None for "sweep".

    With fraction, numbers are shares of the last exit's cost, too. Anything else is a UserError.
    """
    if asked == "sweep":
        return None
    wanted = list(asked) if OmegaConf.is_list(asked) else [asked]
    if not wanted:
        raise UserError("budget=[] asks for nothing; give a number, a list of numbers, or sweep.")
    return tuple(_amount(one, fraction) for one in wanted)


def _amount(asked: object, fraction: bool) -> BudgetAmount:
    share = parse_share(asked)
    if share is not None and fraction:
        raise UserError(f"budget={asked} is a share already; remove unit=fraction.")
    value = asked if share is None else share
    if not is_number(value):
        raise UserError(f"budget={asked} must be a number such as 40e6, a share such as 50%, a list of them, or sweep.")
    is_share = fraction or share is not None
    if is_share and not 0 < value <= 1:
        raise UserError(f"A budget of {asked} must be above 0 and at most the whole cost of the last exit.")
    return BudgetAmount(float(value), is_share)


def _given(cost: Any) -> tuple[float, ...] | None:
    """Return the costs of the option ``cost``."""
    if cost is None:
        return None
    if not OmegaConf.is_list(cost):
        raise UserError(f"cost={cost} must be a list with the cumulative cost of each exit, such as [1,2.5,4].")
    if not all(map(is_number, cost)):
        raise UserError(f"cost={list(cost)} must be numbers, the cumulative cost of each exit.")
    return tuple(cost)


def _check_costs(asked: CostOptions, of_network: bool) -> None:
    if asked.given is None and asked.unit not in (None, *UNITS):
        known = unknown_name("unit", str(asked.unit), UNITS)
        raise UserError(f"{str(known).rstrip('?.')}; or give the cost of each exit in it with cost=[...].")
    if asked.given is None and not of_network:
        raise UserError("Scores alone do not say what the exits cost: add cost=[...], cumulative, one for each exit.")
    options = {**asked.setting, **({} if asked.latency is None else {"latency": asked.latency})}
    for option, value in options.items():
        if asked.given is not None or not (asked.unit == "ms" or asked.deadline):
            raise UserError(f"{option}={value} has no effect without unit=ms or deadline=; remove it.")
        if option != "latency" and asked.latency is not None:
            raise UserError(f"The latency profile says its {option.replace('_', ' ')}; remove {option}=.")
    require_known("backend", asked.setting.get("backend", "auto"), (*BACKENDS, "auto"))
    require_known("precision", asked.setting.get("precision", "float32"), PRECISIONS)
    for option in ("batch_size", "threads"):
        require_count(option, asked.setting.get(option, 1))
    if asked.deadline and asked.unit not in (None, "ms"):
        raise UserError(f"A deadline is in milliseconds; remove unit={asked.unit}.")
