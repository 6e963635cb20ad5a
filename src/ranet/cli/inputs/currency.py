"""What exits cost, in the currency that the user pays in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig

from ranet.calibration.policies.outcome import checked_costs
from ranet.cli.options.shares import is_number
from ranet.cost.fused_stage_costs import FusedStageCosts
from ranet.cost.profile import measure_costs
from ranet.errors import UserError
from ranet.inference.choosing.fastest import runtime_version
from ranet.inference.choosing.latency import measure_latency
from ranet.inference.choosing.latency_profile import LatencyProfile
from ranet.models.fingerprint import network_fingerprint
from ranet.models.staged import StagedNetwork
from ranet.support.hardware import processor_name
from ranet.support.progress import Bar


def _hardware() -> list[str]:
    """The names of the processor and the GPUs here."""
    return [processor_name(), *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))]


@dataclass(frozen=True, eq=False)
class Currency:
    """The cost of each exit.

    Attributes:
        costs: (K,) cumulative; of milliseconds: of each exit as the only one that is used.
        unit: of the costs.
        latency: what was measured, for milliseconds.
        stages: what fused stages cost, where it depends on the used exits what an exit costs.
    """

    costs: npt.NDArray[np.float64]
    unit: str
    latency: LatencyProfile | None = None
    stages: FusedStageCosts | None = None

    @property
    def of_all_exits(self) -> npt.NDArray[np.float64]:
        """(K,) cumulative, where all exits are used."""
        return self.costs if self.stages is None else self.stages.cumulative(range(self.stages.num_exits))

    @property
    def notices(self) -> list[str]:
        """What the user should know of a measurement."""
        of = self.latency
        if of is None:
            return []
        threads = "" if of.threads is None else f" with {of.threads} thread{'' if of.threads == 1 else 's'}"
        batches = "single images" if of.batch_size == 1 else f"batches of {of.batch_size} images"
        notices = [
            f"The milliseconds are those of the {of.backend} backend in {of.precision} for {batches}{threads} on "
            f"{of.hardware}: an engine keeps to them with the same backend, precision and batch size."
        ]
        if not of.steady:
            notices.append("The latencies are unsteady, as if other work ran on this machine: measure when it is idle.")
        if of.runtime_version != runtime_version(of.backend) or of.hardware not in _hardware():
            notices.append(
                f"The latencies were measured on {of.hardware} with {of.backend} {of.runtime_version}, neither of "
                "which need be what runs here."
            )
        return notices

    @property
    def metadata(self) -> dict[str, Any]:
        """What the policy file says of a measurement: on what machine, in which backend, for what batches."""
        return {} if self.latency is None else {"latency": self.latency.to_dict()}


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
    assert network is not None, "the options were checked"
    if config.unit == "ms" or config.deadline is not None:
        latency = _latency(config, network, image_size)
        if config.deadline is not None:  # which binds every batch, and a budget their mean
            return Currency(checked_costs(latency.batch_ms_alone_p95, num_exits), "ms", latency)
        stages = latency.fused_stage_costs
        return Currency(checked_costs(stages.alone, num_exits), "ms", latency, stages)
    unit = "macs" if config.unit in (None, "fraction") else config.unit
    counted = measure_costs(network, image_size).per_exit(unit, config.lazy)
    return Currency(checked_costs(counted, num_exits), f"lazy_{unit}" if config.lazy else unit)


def _latency(config: DictConfig, network: StagedNetwork, image_size: int | None) -> LatencyProfile:
    if image_size != network.image_size:
        raise UserError(
            f"Milliseconds are the engine's, which answers images of {network.image_size} pixels as the network was "
            f"built for them; these have {image_size}: say data.image_size={network.image_size}."
        )
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
        return latency
    # The network is on the first GPU, if there is one, where PyTorch alone runs it.
    elsewhere = "cpu" if config.backend in ("onnxruntime", "openvino") else None
    options = {name: config[name] for name in ("backend", "precision") if config[name] is not None}
    with Bar("Measuring stages") as shown:
        return measure_latency(
            network,
            config.batch_size or 1,
            device=config.device or elsewhere,
            threads=config.threads,
            cache=config.cache,
            progress=shown,
            **options,
        )
