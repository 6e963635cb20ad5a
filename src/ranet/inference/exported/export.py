"""A network and its policies as a folder that an engine runs without PyTorch: one ONNX graph for each fused stage."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ranet.calibration.policies.exit_policy import (
    ONE_POLICY,
    SEVERAL_POLICIES,
    ExitPolicy,
    GivenPolicies,
    given_policies,
    software_versions,
)
from ranet.cost.profile import CostProfile, measure_costs
from ranet.errors import UserError
from ranet.images.canvas import prepares_from_dict
from ranet.images.preprocessing import Floats
from ranet.inference.exported.folder import ExportedFolder, stage_name
from ranet.inference.exported.golden import write_golden
from ranet.inference.exported.manifest import exported_files, write_manifest
from ranet.inference.graphs.of_network import NetworkGraphs
from ranet.inference.runtimes.stage_graph import StageGraph
from ranet.inference.stages.fused_stages import FusedStage, fused_stages, used_exits
from ranet.models.staged import StagedNetwork
from ranet.models.staged_checks import check_network
from ranet.support.files import folder_written_whole, restore_folder

#: Largest difference between the logits in ONNX Runtime and in PyTorch, relative to the largest logit of the exit.
TOLERANCE = 1e-3


class Export(NamedTuple):
    """What `export_engine` has written.

    Attributes:
        folder: the folder, opened.
        difference: the largest relative difference of its logits, in ONNX Runtime, from the network's
            (`ranet.inference.exported.check`); None where ONNX Runtime is not installed, and nothing was compared.
    """

    folder: ExportedFolder
    difference: float | None


def export_engine(
    network: StagedNetwork,
    policies: GivenPolicies,
    folder: str | Path,
    *,
    all_exits: bool = False,
    preprocessing: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    data: Mapping[str, Any] | None = None,
    costs: CostProfile | None = None,
    cache: str | Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Export:
    """Write a folder from which `EarlyExitEngine` answers with ONNX Runtime or OpenVINO, without PyTorch.

    In it are an ONNX file for each fused stage that the policies need (`needed_stages`), the policy files, and
    ``manifest.json``, which says what they are (`write_manifest`). Where ONNX Runtime is installed every stage is run
    and compared with the network. The folder is there when all is well, and then whole; an earlier export at its place
    is replaced.

    Args:
        network: trained.
        policies: one or several, or their files; the first is the one that an engine follows unless told otherwise.
        folder: where. What is there must be an export, or empty.
        all_exits: also every single stage, so that the folder can follow any later policy of the network.
        preprocessing: how images become the network's input, as `Preprocessing.to_dict` gives it. With it the folder
            has a golden picture (`ranet.inference.exported.golden`).
        classes: the name of each class in the order of the labels.
        data: what the network was trained on, as `ranet.data.record.DataRecord.summary` says it.
        costs: what the exits cost; by default they are counted.
        cache: where the network's graph is kept; None: $RANET_CACHE, or else ~/.cache/ranet.
        progress: called after each stage that is written, with how many are, and of how many.

    Raises:
        UserError: for policies of another network, a folder with other things, class names of another number, if a
            package is missing, or if the graphs do not say what the network says.
    """
    check_network(network)
    target = Path(folder).resolve()
    restore_folder(target)
    _check_target(target)
    chosen = _policies(policies, network)
    if classes is not None and len(classes) != network.num_classes:
        raise UserError(f"{len(classes)} class names were given for a network with {network.num_classes} classes.")
    prepares = None if preprocessing is None else prepares_from_dict(preprocessing)
    if prepares is not None:
        prepares.require_shape(network.image_shape, "The preprocessing", "give that of the network's training data")
    graphs = NetworkGraphs(network, None if cache is None else Path(cache) / "graphs")
    for policy in chosen:
        policy.require_network(graphs.facts.fingerprint)
    stages = needed_stages(chosen, all_exits)
    with folder_written_whole(target) as partial:
        files = []
        for stage in stages:
            files.append(_write_stage(partial, stage, graphs.graph(stage)))
            if progress is not None:
                progress(len(files), len(stages))
        network_facts = graphs.facts._asdict()
        del network_facts["cuts"]  # they follow from the stages
        entries = {
            "network": network_facts,
            "stages": files,
            "policies": _write_policies(partial, chosen),
            "preprocessing": None if prepares is None else prepares.to_dict(),
            "golden": None if prepares is None else write_golden(partial, prepares, _logits(network)),
            "classes": None if classes is None else [*classes],
            "data": data,
            "costs": (costs or measure_costs(network)).tables(),
            "software": {**software_versions(), **_onnx_versions(partial / files[0]["file"])},
        }
        write_manifest(partial, entries)
        difference = _compared(network, ExportedFolder(partial), stages)
        _check_target(target)  # again, because an export takes its time
    return Export(ExportedFolder(folder), difference)


def needed_stages(policies: Sequence[ExitPolicy], all_exits: bool = False) -> list[FusedStage]:
    """Return the fused stages of some policies, and those between all exits that any of them uses.

    So a chain of them answers at any of these exits: under a cap (``max_exit``) at an exit that another policy uses, or
    for a later policy that uses no others.

    Args:
        policies: for K exits.
        all_exits: as if one of them used all exits.

    Example:
        >>> inf = float("inf")
        >>> needed_stages([ExitPolicy((0.9, inf, 0.8))])
        [FusedStage(first=0, last=0), FusedStage(first=1, last=2), FusedStage(first=3, last=3)]
        >>> len(needed_stages([ExitPolicy((0.9, inf, 0.8))], all_exits=True))
        5
    """
    stages = {stage for policy in policies for stage in fused_stages(used_exits(policy))}
    cuts = range(policies[0].num_exits) if all_exits else sorted({stage.last for stage in stages})
    return sorted(stages.union(fused_stages(cuts)))


def _policies(given: GivenPolicies, network: StagedNetwork) -> list[ExitPolicy]:
    policies = given_policies(given)
    if not policies:
        raise UserError("An export needs a policy, which decides where images leave; ranet calibrate solves one.")
    for policy in policies:
        if policy.num_exits != network.num_exits:
            raise UserError(
                f"The policy is for {policy.num_exits} exits and the network has {network.num_exits}: calibrate a "
                "policy for this one."
            )
    return policies


def _write_stage(folder: Path, stage: FusedStage, graph: StageGraph) -> dict[str, Any]:
    """Write the file of a stage and return its entries for the manifest."""
    content = graph.model if isinstance(graph.model, bytes) else graph.model.read_bytes()
    name = f"{stage_name(stage).replace(' ', '_')}.onnx"
    (folder / name).write_bytes(content)
    return {
        **stage._asdict(),
        "file": name,
        "bytes": len(content),
        "sha256": sha256(content).hexdigest(),
        "before": [tensor._asdict() for tensor in graph.before],
        "inputs": graph.inputs,
        "logits": graph.logits,
        "after": [tensor._asdict() for tensor in graph.after],
    }


def _write_policies(folder: Path, policies: Sequence[ExitPolicy]) -> list[str]:
    if len(policies) == 1:
        names = [ONE_POLICY]
    else:
        width = len(str(len(policies)))
        names = [f"{SEVERAL_POLICIES}/policy_{number:0{width}}.json" for number in range(1, len(policies) + 1)]
    for name, policy in zip(names, policies, strict=True):
        policy.save(folder / name)
    return names


def _logits(network: StagedNetwork) -> Callable[[Floats], Floats]:
    """Return a function from an input (C, H, W) to the logits (K, C) of all exits, in PyTorch on the CPU."""
    reference = copy.deepcopy(network).to("cpu", torch.float32).eval()

    def logits(seen: Floats) -> Floats:
        with torch.inference_mode():
            found: Floats = reference(torch.from_numpy(seen)[None])[:, 0].numpy()
        return found

    return logits


def _onnx_versions(file: Path) -> dict[str, str]:
    onnx = import_module("onnx")  # which made the graphs
    operators = {each.domain: each.version for each in onnx.load(file).opset_import}
    return {"onnx": version("onnx"), "opset": str(operators.get("", operators.get("ai.onnx")))}


def _compared(network: StagedNetwork, exported: ExportedFolder, stages: Sequence[FusedStage]) -> float | None:
    if find_spec("onnxruntime") is None:
        return None
    from ranet.inference.exported.check import largest_difference

    difference = largest_difference(network, exported, stages)
    if not difference <= TOLERANCE:  # nor NaN
        raise UserError(
            f"The exported graphs differ from the network by {difference:.2g} of the largest logit, which is more than "
            f"rounding ({TOLERANCE:g}), so nothing was written: check the weights, or use the torch backend."
        )
    return difference


def _check_target(target: Path) -> None:
    """Refuse to replace what is no export, or to lose what others have put into one."""
    if target.is_file():
        raise UserError(f"{str(target)!r} is a file; choose another folder for the export.")
    if Path.cwd().is_relative_to(target):
        raise UserError(f"The folder {str(target)!r} is where this process works; name another one for the export.")
    if not target.is_dir() or not any(target.iterdir()):
        return
    try:
        own = exported_files(target)
    except UserError as error:
        raise UserError(
            f"The folder {str(target)!r} is not empty and is no earlier export; choose another one."
        ) from error
    there = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    if strangers := sorted(there - own):
        raise UserError(
            f"The export {str(target)!r} also holds {strangers[0]!r}, which would be lost; move it, or choose another "
            "folder."
        )
