"""What exits cost, in the unit that the user asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ranet.calibration.policies.outcome import Costs, costs_of_images
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.cli.options.calibrate import CostOptions
from ranet.cost.profile import measure_costs
from ranet.cost.table import CostTable
from ranet.errors import UserError
from ranet.inference.choosing.latency import measure_latency
from ranet.inference.choosing.latency_profile import LatencyProfile
from ranet.inference.choosing.open_backend import runtime_version
from ranet.models.fingerprint import network_fingerprint
from ranet.models.staged import StagedNetwork
from ranet.support.hardware import processor_name
from ranet.support.progress import Bar
from ranet.support.shapes import ImageSize


def _hardware() -> list[str]:
    """The names of the processor and the GPUs here."""
    return [processor_name(), *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))]


@dataclass(frozen=True, eq=False)
class ExitCosts:
    """What a network costs, in the unit that the user asks for.

    Attributes:
        table: the costs.
        latency: the measurement, for milliseconds.
        chooses_exits: whether a budget also chooses which exits to use: where each cut costs time.
    """

    table: CostTable
    latency: LatencyProfile | None = None
    chooses_exits: bool = False

    @property
    def unit(self) -> str:
        """Unit of the costs."""
        return self.table.unit

    def of(self, scores: ExitScores) -> Costs:
        """Return the costs by which policies are solved on these scores."""
        return self.table if self.chooses_exits else costs_of_images(self.table, scores)

    def alone(self, scores: ExitScores | None = None) -> npt.NDArray[np.float64]:
        """Return (K,) the mean cost of each exit alone; as the papers count operations, with the heads before it.

        Args:
            scores: of the images; None: without what optional parts add.
        """
        fixed = self.table.alone if self.chooses_exits else self.table.cumulative()
        return fixed if scores is None else replace(costs_of_images(self.table, scores), fixed=fixed).means

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


def exit_costs(
    asked: CostOptions, num_exits: int, network: StagedNetwork | None = None, image_size: ImageSize | None = None
) -> ExitCosts:
    """Return the costs that are asked for; scores of a network that is not here need given ones."""
    unit = None if asked.unit == "fraction" else asked.unit
    if asked.given is not None:
        if len(asked.given) != num_exits:
            raise UserError(
                f"cost={list(asked.given)} must have one cumulative cost for each of the {num_exits} exits."
            )
        return ExitCosts(CostTable.of_exits(asked.given, "ms" if asked.deadline else unit or ""))
    assert network is not None, "the options were checked"
    if asked.deadline:  # which binds every batch, and a budget their mean
        latency = _latency(asked, network, image_size)
        return ExitCosts(CostTable.of_exits(latency.batch_ms_alone_p95, "ms"), latency)
    if unit == "ms":
        latency = _latency(asked, network, image_size)
        return ExitCosts(latency.costs, latency, chooses_exits=True)
    return ExitCosts(measure_costs(network, image_size).table(unit or "macs"))


def _latency(asked: CostOptions, network: StagedNetwork, image_size: ImageSize | None) -> LatencyProfile:
    if image_size != network.image_size:
        raise UserError(
            f"Milliseconds are the engine's, which answers images of {network.image_size} pixels as the network was "
            f"built for them; these have {image_size}: say data.image_size={network.image_size}."
        )
    if asked.latency is not None:
        latency = LatencyProfile.load(asked.latency)
        if latency.num_exits != network.num_exits:
            raise UserError(
                f"The latency profile {asked.latency} is of {latency.num_exits} exits, the network has "
                f"{network.num_exits}; measure it anew (leave out latency=)."
            )
        if latency.network != network_fingerprint(network, weights=False):
            raise UserError(
                f"The latency profile {asked.latency} is of another network; measure it anew (leave out latency=)."
            )
        return latency
    # The network is on the first GPU, if there is one, where PyTorch alone runs it.
    elsewhere = "cpu" if asked.setting.get("backend") in ("onnxruntime", "openvino") else None
    with Bar("Measuring stages") as shown:
        return measure_latency(network, cache=asked.cache, progress=shown, **{"device": elsewhere, **asked.setting})
