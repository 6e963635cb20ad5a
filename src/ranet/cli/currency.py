"""What exits cost, in the currency that the user pays in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig, OmegaConf

from ranet.calibration import checked_costs
from ranet.cli.trained import UNITS as COUNTED
from ranet.cost import LatencyProfile, measure_costs, measure_latency
from ranet.errors import UserError, unknown_name
from ranet.hardware import processor_name
from ranet.models import StagedNetwork, network_fingerprint

UNITS = (*COUNTED, "ms", "fraction")


def _hardware() -> list[str]:
    """The names of the processor and the GPUs here."""
    return [processor_name(), *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))]


@dataclass(frozen=True, eq=False)
class Currency:
    """The cost of each exit.

    Attributes:
        costs: (K,) cumulative.
        unit: of the costs.
        latency: what was measured, for milliseconds.
    """

    costs: npt.NDArray[np.float64]
    unit: str
    latency: LatencyProfile | None = None

    @property
    def notices(self) -> list[str]:
        """What the user should know of a measurement."""
        if self.latency is None:
            return []
        notices = []
        if not self.latency.steady:
            notices.append("The latencies are unsteady, as if other work ran on this machine: measure when it is idle.")
        if self.latency.torch != str(torch.__version__) or self.latency.hardware not in _hardware():
            notices.append(
                f"The latencies were measured on {self.latency.hardware} with PyTorch {self.latency.torch}, neither of "
                "which need be what runs here."
            )
        return notices

    @property
    def metadata(self) -> dict[str, Any]:
        """What the policy file says of a measurement: on what machine, for what batches."""
        return {} if self.latency is None else {"latency": self.latency.to_dict()}


def check_currency(config: DictConfig) -> None:
    """Refuse options of the costs that are wrong or have no effect, before anything is computed."""
    if config.cost is None and config.unit not in (None, *UNITS):
        known = unknown_name("unit", str(config.unit), UNITS)
        raise UserError(f"{str(known).rstrip('?.')}; or say what each exit costs in it with cost=[...].")
    if config.cost is None and config.scores is not None:
        raise UserError("Scores alone do not say what the exits cost: add cost=[...], cumulative, one for each exit.")
    if config.cost is not None and not OmegaConf.is_list(config.cost):
        raise UserError(f"cost={config.cost} must be a list with the cumulative cost of each exit, such as [1,2.5,4].")
    timed = config.cost is None and (config.unit == "ms" or config.deadline is not None)
    for option in ("batch_size", "latency"):
        if config[option] is not None and not timed:
            raise UserError(f"{option}={config[option]} has no effect without unit=ms or deadline=; remove it.")
    if config.batch_size is not None and config.latency is not None:
        raise UserError("The latency profile says its batch size; remove batch_size=.")
    if config.deadline is not None and config.unit not in (None, "ms"):
        raise UserError(f"A deadline is in milliseconds; remove unit={config.unit}.")
    if config.lazy and (config.cost is not None or timed):
        raise UserError("lazy=true counts operations; it has no effect on milliseconds or on cost=.")


def currency(
    config: DictConfig, num_exits: int, network: StagedNetwork | None = None, image_size: int | None = None
) -> Currency:
    """The costs of the exits, as the configuration says; without a network for scores of one that is not here."""
    if config.cost is not None:
        given = list(config.cost)
        if not all(is_number(value) for value in given):
            raise UserError(f"cost={given} must be numbers, the cumulative cost of each exit.")
        if len(given) != num_exits:
            raise UserError(f"cost={given} must have one cumulative cost for each of the {num_exits} exits.")
        unit = "ms" if config.deadline is not None else config.unit
        return Currency(checked_costs(given, num_exits), unit if unit not in (None, "fraction") else "")
    assert network is not None, "check_currency has asked for cost="
    if config.unit == "ms" or config.deadline is not None:
        latency = _latency(config, network, image_size)
        # A deadline binds every batch, a budget their mean.
        measured = latency.batch_ms_per_exit_p95 if config.deadline is not None else latency.ms_per_exit
        return Currency(checked_costs(measured, num_exits), "ms", latency)
    unit = "macs" if config.unit in (None, "fraction") else config.unit
    counted = measure_costs(network, image_size).per_exit(unit, config.lazy)
    return Currency(checked_costs(counted, num_exits), f"lazy_{unit}" if config.lazy else unit)


def _latency(config: DictConfig, network: StagedNetwork, image_size: int | None) -> LatencyProfile:
    if config.latency is not None:
        latency = LatencyProfile.load(config.latency)
        if latency.num_exits != network.num_exits:
            raise UserError(
                f"The latency profile {config.latency} is of {latency.num_exits} exits, the network has "
                f"{network.num_exits}; measure it anew (leave out latency=)."
            )
        if latency.network != network_fingerprint(network, weights=False):
            raise UserError(
                f"The latency profile {config.latency} is of another network; measure it anew (leave out latency=)."
            )
        if latency.image_size != image_size:
            raise UserError(
                f"The latency profile {config.latency} is of images of {latency.image_size} pixels, these have "
                f"{image_size}; measure it anew (leave out latency=)."
            )
        return latency
    batch_size = 1 if config.batch_size is None else config.batch_size
    if not isinstance(batch_size, int) or isinstance(batch_size, bool):
        raise UserError(f"batch_size={batch_size} must be a whole number of at least 1.")
    return measure_latency(network, batch_size, image_size)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number, and one that a float can hold: Python's whole numbers may be too large."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300)
