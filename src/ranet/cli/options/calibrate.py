"""Check of the options of ranet calibrate, before anything is read."""

from __future__ import annotations

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ranet.calibration.goals import BOUNDS, POLICIES, RISKS, Budget, BudgetAmount, Deadline, Goal, Risk, score_of
from ranet.calibration.scores.checks import SCORES
from ranet.cli.options.shared import UNITS as COUNTED
from ranet.cli.options.shared import check_checkpoint, check_without_checkpoint, has_network
from ranet.cli.options.shares import is_number, is_share, parse_share
from ranet.errors import UserError, require_known, unknown_name
from ranet.inference.choosing.open_backend import BACKENDS
from ranet.inference.runtimes.backend import PRECISIONS
from ranet.support.numbers import require_count

UNITS = (*COUNTED, "ms", "fraction")
#: Options of a measurement, which a profile that was measured before decides.
_MEASURED = ("batch_size", "backend", "precision", "threads", "device")


def check_options(config: DictConfig) -> None:
    """Refuse options that are invalid or have no effect."""
    if has_network(config) == (config.scores is not None):
        raise UserError("Say what to calibrate: either checkpoint=RUN or scores=FILE.npz.")
    if not OmegaConf.is_dict(config.risk):
        raise UserError(f"risk={config.risk} has no effect; say the risk that is tolerated as risk.eps=, such as 0.01.")
    goals = [name for name in ("budget", "risk.eps", "deadline") if OmegaConf.select(config, name) is not None]
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
    _check_currency(config)
    share = config.temperature_share
    if not is_number(share) or not 0 <= share < 1:
        raise UserError(f"temperature_share={share} must be at least 0 and below 1.")
    if config.scores is None and config.test_scores is not None:
        raise UserError("test_scores= goes with scores=; with a checkpoint, say test=true.")
    if config.scores is not None:
        if config.test:
            raise UserError("test=true goes with checkpoint=; for scores=, test_scores=FILE.npz alone is enough.")
        check_without_checkpoint(config, "scores", "temperature_share", "model", "data", "cache")
    check_checkpoint(config)
    goal_of(config)


def goal_of(config: DictConfig) -> Goal:
    """Return the goal that the checked options state.

    Raises:
        UserError: for a budget that is not one, or a score that the family of policies cannot compare.
    """
    if config.budget is not None:
        score_of(config.policy, config.score)
        amounts = budget_amounts(config.budget, fraction=config.unit == "fraction")
        return Budget(amounts, config.policy, config.score, config.alternatives)
    if config.deadline is not None:
        return Deadline(config.deadline)
    return Risk(config.risk.eps, config.risk.delta, config.risk.of, config.risk.bound, config.score)


def budget_amounts(asked: Any, *, fraction: bool = False) -> tuple[BudgetAmount, ...] | None:
    """Return the budgets that the option ``budget`` asks for; None for a sweep.

    Args:
        asked: a number, "50%" as a share of the last exit's cost, a list of these, or "sweep".
        fraction: whether numbers are shares of the last exit's cost, too.

    Raises:
        UserError: for anything else.
    """
    if asked == "sweep":
        return None
    wanted = list(asked) if OmegaConf.is_list(asked) else [asked]
    if not wanted:
        raise UserError("budget=[] asks for nothing; give a number, a list of numbers, or sweep.")
    return tuple(_amount(one, fraction) for one in wanted)


def _amount(asked: object, fraction: bool) -> BudgetAmount:
    value = parse_share(asked) if is_share(asked) else asked
    if is_share(asked) and fraction:
        raise UserError(f"budget={asked} is a share already; remove unit=fraction.")
    if not is_number(value):
        raise UserError(f"budget={asked} must be a number such as 40e6, a share such as 50%, a list of them, or sweep.")
    share = fraction or is_share(asked)
    if share and not 0 < value <= 1:
        raise UserError(f"A budget of {asked} must be above 0 and at most the whole cost of the last exit.")
    return BudgetAmount(float(value), share)


def _check_currency(config: DictConfig) -> None:
    """Refuse options of the costs that are invalid or have no effect."""
    if config.cost is None and config.unit not in (None, *UNITS):
        known = unknown_name("unit", str(config.unit), UNITS)
        raise UserError(f"{str(known).rstrip('?.')}; or give the cost of each exit in it with cost=[...].")
    if config.cost is None and config.scores is not None:
        raise UserError("Scores alone do not say what the exits cost: add cost=[...], cumulative, one for each exit.")
    if config.cost is not None and not OmegaConf.is_list(config.cost):
        raise UserError(f"cost={config.cost} must be a list with the cumulative cost of each exit, such as [1,2.5,4].")
    timed = config.cost is None and (config.unit == "ms" or config.deadline is not None)
    for option in (*_MEASURED, "latency"):
        if config[option] is None:
            continue
        if not timed:
            raise UserError(f"{option}={config[option]} has no effect without unit=ms or deadline=; remove it.")
        if option != "latency" and config.latency is not None:
            raise UserError(f"The latency profile says its {option.replace('_', ' ')}; remove {option}=.")
    for option, names in (("backend", (*BACKENDS, "auto")), ("precision", PRECISIONS)):
        if config[option] is not None:
            require_known(option, config[option], names)
    for option in ("batch_size", "threads"):
        if config[option] is not None:
            require_count(option, config[option])
    if config.deadline is not None and config.unit not in (None, "ms"):
        raise UserError(f"A deadline is in milliseconds; remove unit={config.unit}.")
