"""Open a network or an exported folder in the backend of the user's choice, or in the fastest one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.cost.table import CostTable
from ranet.errors import UserError, require_known
from ranet.inference.runtimes.backend import PRECISIONS, Backend, Precision, Runtime, largest_size, sized
from ranet.inference.runtimes.onnxruntime_backend import OnnxRuntimeBackend
from ranet.inference.runtimes.openvino_backend import BATCH_SIZES, OpenVinoBackend
from ranet.inference.runtimes.stage_graph import GraphSource
from ranet.inference.runtimes.stage_times import measure_stages
from ranet.inference.stages.fused_stages import FusedStage, fused_stages
from ranet.support.files import written_whole
from ranet.support.hardware import available_cores, processor_name
from ranet.support.numbers import require_count, require_counts
from ranet.support.strict_json import canonical_json, parse_strict_json

if TYPE_CHECKING:
    from ranet.images.preprocessing import Prepares
    from ranet.models.staged import StagedNetwork

BACKENDS = ("torch", "onnxruntime", "openvino")
#: Batch sizes that count alike in the choice of the fastest: a single image, and a data set.
COMPARED = (1, 32)
log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A network that can run.

    Attributes:
        backend: that runs it.
        stages_for: the fused stages that end at given exits.
        costs: gives the MACs of the network as the engine computes it.
        policies, classes, preprocessing: as in `ExportedFolder`; none for a network.
    """

    backend: Backend
    stages_for: Callable[[Sequence[int]], list[FusedStage]]
    costs: Callable[[], CostTable]
    policies: tuple[ExitPolicy, ...] = ()
    classes: tuple[str, ...] | None = None
    preprocessing: Prepares | None = None


def graph_backend(name: str, source: GraphSource, runtime: Runtime) -> Backend:
    """Return ONNX Runtime or OpenVINO for the graphs of a source; the batch sizes are for OpenVINO."""
    if name == "onnxruntime":
        return OnnxRuntimeBackend(source, runtime.threads, runtime.precision)
    return OpenVinoBackend(source, runtime.threads, runtime.precision, runtime.batch_sizes or BATCH_SIZES)


def installed_backends(precision: Precision, *, exported: bool, on_gpu: bool) -> list[str]:
    """Return the backends that can run here: only PyTorch on a GPU, and all others for an exported folder."""
    if on_gpu:
        return ["torch"]
    found = [] if exported else ["torch"]
    if exported or (find_spec("onnx") and find_spec("onnxscript")):
        if find_spec("onnxruntime") and precision == "float32":
            found.append("onnxruntime")
        if find_spec("openvino"):
            found.append("openvino")
    return found


def open_network(network: StagedNetwork | str | Path, runtime: Runtime) -> Opened:
    """Open a network in a backend; raises as `EarlyExitEngine`."""
    require_known("backend", runtime.backend, (*BACKENDS, "auto"))
    require_known("precision", runtime.precision, PRECISIONS)
    if runtime.threads is not None:
        require_count("threads", runtime.threads)
    if runtime.batch_sizes is not None:
        runtime = runtime._replace(batch_sizes=require_counts("batch_sizes", runtime.batch_sizes))
        if runtime.backend in ("torch", "onnxruntime"):
            raise UserError(f"The backend {runtime.backend} computes batches of any size; leave out batch_sizes.")
    if isinstance(network, str | Path):
        return _open_folder(Path(network), runtime)
    if not hasattr(network, "named_modules"):
        raise UserError(f"An engine runs a network or an exported folder, not {type(network).__name__}.")
    return _open_network(network, runtime)


def _open_network(network: StagedNetwork, runtime: Runtime) -> Opened:
    import torch

    from ranet.cost.profile import measure_costs
    from ranet.inference.runtimes.torch_backend import TorchBackend
    from ranet.models.fingerprint import network_fingerprint
    from ranet.models.staged_checks import check_network

    check_network(network)
    try:
        place = torch.device(next(network.parameters()).device if runtime.device is None else runtime.device)
    except RuntimeError as error:  # whose message lists twenty kinds of devices
        raise UserError(f"There is no device {str(runtime.device)!r}; say cpu, cuda or cuda:1.") from error
    on_gpu = place.type != "cpu"
    if on_gpu and runtime.backend not in ("auto", "torch"):
        raise UserError(
            f"The backend {runtime.backend} runs on the processor here; leave out device={runtime.device} or use torch."
        )

    @cache
    def graphs() -> GraphSource:
        from ranet.inference.graphs.of_network import NetworkGraphs

        return NetworkGraphs(network, runtime.cache_folder / "graphs")

    def make(name: str) -> Backend:
        if name != "torch":
            return graph_backend(name, graphs(), runtime)
        if runtime.threads is not None:
            torch.set_num_threads(runtime.threads)
        return TorchBackend(network, place, runtime.precision)

    names = installed_backends(runtime.precision, exported=False, on_gpu=on_gpu)
    return Opened(
        fastest(names, make, network_fingerprint(network), runtime),
        fused_stages,
        lambda: measure_costs(network).table("macs"),
    )


def _open_folder(path: Path, runtime: Runtime) -> Opened:
    from ranet.inference.exported.folder import ExportedFolder
    from ranet.inference.exported.golden import check_golden

    folder = ExportedFolder(path)
    if runtime.backend == "torch":
        raise UserError("An exported folder holds ONNX graphs; run it with backend=onnxruntime or backend=openvino.")
    if runtime.device is not None and str(runtime.device) != "cpu":
        raise UserError(f"An exported folder runs on the processor; leave out device={runtime.device}.")
    names = installed_backends(runtime.precision, exported=True, on_gpu=False)
    if not names and runtime.backend == "auto":
        extras = 'pip install "ranet[openvino]"' + (' or "ranet[onnx]"' if runtime.precision == "float32" else "")
        raise UserError(f"No runtime for an exported folder is installed: {extras}.")
    if folder.manifest.golden is not None and folder.preprocessing is not None:
        check_golden(path, folder.manifest.golden, folder.preprocessing)
    return Opened(
        fastest(names, lambda name: graph_backend(name, folder, runtime), folder.facts.fingerprint, runtime),
        folder.stages_for,
        folder.costs,
        tuple(folder.policies),
        folder.classes,
        folder.preprocessing,
    )


def fastest(names: Sequence[str], make: Callable[[str], Backend], fingerprint: str, runtime: Runtime) -> Backend:
    """Return the chosen backend; for "auto", the one of these with the least time for an image through all exits.

    That is measured over batches of 1 and of 32, and remembered in the cache for this network (its fingerprint),
    processor and software. If the cache cannot be written, it is measured again the next time. ``make`` raises a
    UserError where a backend cannot run the network; one that can is enough.
    """
    if runtime.backend != "auto":
        return make(runtime.backend)
    if len(names) == 1:
        return make(names[0])
    key = {
        "network": fingerprint,
        "candidates": {name: runtime_version(name) for name in names},
        "precision": runtime.precision,
        "threads": runtime.threads or available_cores(),
        "batch_sizes": None if runtime.batch_sizes is None else list(runtime.batch_sizes),
        "hardware": processor_name(),
    }
    path = runtime.cache_folder / "backends" / f"{sha256(canonical_json(key).encode()).hexdigest()[:16]}.json"
    remembered: Any = None
    with suppress(OSError, ValueError, TypeError, KeyError):  # there is no file, or a damaged one
        remembered = parse_strict_json(path.read_text(encoding="utf-8"))["fastest"]
    if remembered in names:
        return make(remembered)
    log.info("Measuring which of %s is the fastest here; this happens once.", ", ".join(names))
    opened: dict[str, Backend] = {}
    times: dict[str, float] = {}
    refused: list[UserError] = []
    for name in names:
        # One that cannot run this network, or not in this precision, is no candidate, as long as another can.
        try:
            opened[name] = make(name)
            times[name] = _time(opened[name])
        except UserError as error:
            refused.append(error)
    if not times:
        raise refused[0]
    chosen = min(times, key=lambda name: times[name])
    try:
        with written_whole(path) as partial:
            partial.write_text(json.dumps({"fastest": chosen, "times": times, "key": key}, indent=1) + "\n")
    except OSError as error:
        log.warning("The fastest backend cannot be remembered in %s: %s.", path.parent, error.strerror)
    return opened[chosen]


def _time(backend: Backend) -> float:
    """Return the product of the times of an image in batches of the compared sizes: their ratios count alike."""
    stages = fused_stages(backend.facts.cuts)
    batches = [min(size, largest_size(backend.fixed_sizes, size)) for size in COMPARED]
    times = measure_stages(backend, [stages], sorted({sized(backend, rows) for rows in batches}))
    return prod(sum(times.step(stage, sized(backend, rows)) for stage in stages) / rows for rows in batches)


def runtime_version(backend: str) -> str:
    """Return the version of the package that a backend needs; "unknown" where it is not installed by that name."""
    try:
        return version(backend)
    except PackageNotFoundError:
        return "unknown"
