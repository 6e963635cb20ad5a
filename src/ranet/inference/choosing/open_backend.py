"""Open a network or an exported folder in a backend that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.cost.table import CostTable
from ranet.errors import UserError, require_known
from ranet.inference.choosing.fastest import fastest
from ranet.inference.runtimes.backend import PRECISIONS, Backend, Precision, Runtime
from ranet.inference.runtimes.stage_graph import GraphSource
from ranet.inference.stages.fused_stages import FusedStage, fused_stages
from ranet.support.numbers import require_count, require_counts

if TYPE_CHECKING:
    from ranet.images.preprocessing import Preprocessing
    from ranet.models.staged import StagedNetwork

BACKENDS = ("torch", "onnxruntime", "openvino")


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
    preprocessing: Preprocessing | None = None


def graph_backend(name: str, source: GraphSource, runtime: Runtime) -> Backend:
    """Return ONNX Runtime or OpenVINO for the graphs of a source; the batch sizes are for OpenVINO."""
    if name == "onnxruntime":
        from ranet.inference.runtimes.onnxruntime_backend import OnnxRuntimeBackend

        return OnnxRuntimeBackend(source, runtime.threads, runtime.precision)
    from ranet.inference.runtimes.openvino_backend import BATCH_SIZES, OpenVinoBackend

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
