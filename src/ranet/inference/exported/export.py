"""Export of a network and its policies to a folder, which an engine runs without PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
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
from ranet.inference.exported.manifest import MANIFEST, Manifest, exported_files
from ranet.inference.graphs.of_network import NetworkGraphs
from ranet.inference.runtimes.backend import NetworkFacts, State
from ranet.inference.runtimes.onnxruntime_backend import OnnxRuntimeBackend
from ranet.inference.runtimes.stage_graph import StageGraph
from ranet.inference.stages.fused_stages import FusedStage, fused_stages, used_exits
from ranet.models.staged import StagedNetwork
from ranet.models.staged_checks import check_network
from ranet.support.files import folder_written_whole, restore_folder

#: Largest difference between the logits in ONNX Runtime and in PyTorch, relative to the largest logit of the exit.
TOLERANCE = 1e-3
_CHECKED = 3  # images


class Export(NamedTuple):
    """What `export_engine` has written.

    Attributes:
        folder: the folder, opened.
        difference: the largest difference of a logit, in ONNX Runtime, from the network's, at the end of any stage,
            divided by the largest logit of that exit; None where ONNX Runtime is not installed.
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

    It holds an ONNX file for each fused stage that the policies need (`needed_stages`), the policy files, and
    ``manifest.json``, which describes them (`Manifest`). Where ONNX Runtime is installed, every stage is run and
    compared with the network. The folder appears whole or not at all, and replaces an earlier export.

    Args:
        network: trained.
        policies: one or several, or their files; an engine follows the first by default.
        folder: a new or empty folder, or an earlier export.
        all_exits: export every single stage as well, so that the folder can follow any later policy of the network.
        preprocessing: steps from an image to the network's input, as `Preprocessing.to_dict` gives them. With them the
            folder has a golden picture (`ranet.inference.exported.golden`).
        classes: the name of each class in the order of the labels.
        data: the training data, as `ranet.data.record.DataRecord.summary` describes it.
        costs: costs of the exits; by default they are counted.
        cache: folder for the network's graph; None: $RANET_CACHE, or else ~/.cache/ranet.
        progress: called after each stage with the number of written stages and the number of all.

    Raises:
        UserError: for policies of another network, a folder with other files, a wrong number of class names, a missing
            package, or graphs whose answers differ from the network's.
    """
    check_network(network)
    target = Path(folder).resolve()
    restore_folder(target)
    _check_target(target)
    if classes is not None and len(classes) != network.num_classes:
        raise UserError(f"{len(classes)} class names were given for a network with {network.num_classes} classes.")
    prepares = None if preprocessing is None else prepares_from_dict(preprocessing)
    if prepares is not None:
        prepares.require_shape(network.image_shape, "The preprocessing", "give that of the network's training data")
    graphs = NetworkGraphs(network, None if cache is None else Path(cache) / "graphs")
    chosen = _policies(policies, graphs.facts)
    stages = needed_stages(chosen, all_exits)
    with folder_written_whole(target) as partial:
        files = []
        for stage in stages:
            files.append(_write_stage(partial, stage, graphs.graph(stage)))
            if progress is not None:
                progress(len(files), len(stages))
        logits_of = _logits_of(network)
        entries = {
            # Without the cuts, which follow from the stages.
            "network": {name: value for name, value in graphs.facts._asdict().items() if name != "cuts"},
            "stages": files,
            "policies": _write_policies(partial, chosen),
            "preprocessing": None if prepares is None else prepares.to_dict(),
            "golden": None if prepares is None else write_golden(partial, prepares, logits_of),
            "classes": None if classes is None else [*classes],
            "data": data,
            "costs": (costs or measure_costs(network)).tables(),
            "software": {**software_versions(), **_onnx_versions(partial / files[0]["file"])},
        }
        Manifest.write(partial / MANIFEST, entries)
        difference = _difference(logits_of, ExportedFolder(partial))
        _check_target(target)  # again, because an export takes its time
    return Export(ExportedFolder(folder), difference)


def needed_stages(policies: Sequence[ExitPolicy], all_exits: bool = False) -> list[FusedStage]:
    """Return the fused stages of some policies, and those between all exits that any policy uses.

    With these a folder can answer at any of these exits, also for a later policy, or under a cap (``max_exit``). With
    ``all_exits`` that holds for every exit of the network.

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


def _policies(given: GivenPolicies, facts: NetworkFacts) -> list[ExitPolicy]:
    policies = given_policies(given)
    if not policies:
        raise UserError("An export needs a policy, which decides where images leave; ranet calibrate solves one.")
    for policy in policies:
        if policy.num_exits != facts.num_exits:
            raise UserError(
                f"The policy is for {policy.num_exits} exits and the network has {facts.num_exits}: calibrate a policy "
                "for this one."
            )
        policy.require_network(facts.fingerprint)
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


def _logits_of(network: StagedNetwork) -> Callable[[Floats], Floats]:
    """Return a function from images (B, C, H, W) to the logits (K, B, C) of all exits, in PyTorch on the CPU."""
    reference = copy.deepcopy(network).to("cpu", torch.float32).eval()

    @torch.inference_mode()
    def logits(images: Floats) -> Floats:
        found: Floats = reference(torch.from_numpy(images)).numpy()
        return found

    return logits


def _onnx_versions(file: Path) -> dict[str, str]:
    onnx = import_module("onnx")  # which made the graphs
    operators = {each.domain: each.version for each in onnx.load(file).opset_import}
    return {"onnx": version("onnx"), "opset": str(operators.get("", operators.get("ai.onnx")))}


def _difference(logits_of: Callable[[Floats], Floats], exported: ExportedFolder) -> float | None:
    """Return `Export.difference`, with every stage run once on what other stages have computed from random images."""
    if find_spec("onnxruntime") is None:
        return None
    images = np.random.default_rng(0).standard_normal((_CHECKED, *exported.facts.input_shape), dtype=np.float32)
    expected = logits_of(images)
    backend = OnnxRuntimeBackend(exported)
    states: dict[int, State] = {-1: (images,)}  # behind each exit
    differences = []
    for stage in exported.stages:  # by where they start: what leads there has run
        logits, after = backend.run(stage, states[stage.first - 1], len(images))
        states.setdefault(stage.last, after)
        largest = np.abs(expected[stage.last]).max()
        differences.append(np.abs(logits - expected[stage.last]).max() / (largest if largest > 0 else 1.0))
    difference = float(np.max(differences))
    if not difference <= TOLERANCE:  # nor NaN
        raise UserError(
            f"The exported graphs differ from the network by {difference:.2g} of the largest logit, which is more than "
            f"rounding ({TOLERANCE:g}), so nothing was written: check the weights, or use the torch backend."
        )
    return difference


def _check_target(target: Path) -> None:
    """Refuse to replace a folder that is not an export, or that holds other files as well."""
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
