"""Check of the options of ranet calibrate, before anything is read."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ranet.calibration.goals import BOUNDS, POLICIES, RISKS, score_of
from ranet.calibration.scores.checks import SCORES
from ranet.cli.options.shared import UNITS as COUNTED
from ranet.cli.options.shared import check_checkpoint, check_without_checkpoint
from ranet.cli.options.shares import is_number
from ranet.errors import UserError, require_known, unknown_name
from ranet.inference.choosing.open_backend import BACKENDS
from ranet.inference.runtimes.backend import PRECISIONS
from ranet.support.numbers import require_count

UNITS = (*COUNTED, "ms", "fraction")
#: Options of a measurement, which a profile that was measured before decides.
_MEASURED = ("batch_size", "backend", "precision", "threads", "device")


def check_options(config: DictConfig) -> None:
    """Refuse options that are invalid or have no effect."""
    if (config.checkpoint is None) == (config.scores is None):
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
    if goals == ["budget"]:
        score_of(config.policy, config.score)
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
    if config.lazy and (config.cost is not None or timed):
        raise UserError("lazy=true counts operations; it has no effect on milliseconds or on cost=.")
