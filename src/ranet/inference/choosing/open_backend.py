"""From what the user has, a network or an exported folder, to a backend that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.cost.table import CostTable
from ranet.errors import UserError, unknown_name
from ranet.inference.choosing.fastest import fastest
from ranet.inference.runtimes.backend import PRECISIONS, Backend, Precision
from ranet.inference.runtimes.stage_graph import GraphSource
from ranet.inference.stages.fused_stages import FusedStage, fused_stages
from ranet.support.files import default_cache
from ranet.support.numbers import require_count, require_counts

if TYPE_CHECKING:
    import torch

    from ranet.images.preprocessing import Prepares
    from ranet.models.staged import StagedNetwork

BACKENDS = ("torch", "onnxruntime", "openvino")


class Opened(NamedTuple):
    """A network that can run, and what is known of it.

    Attributes:
        backend: that runs it.
        stages_for: the fused stages that end at given exits.
        costs: gives the MACs of the network as the engine computes it.
        policies: of an exported folder.
        classes: names of the classes, or None.
        preprocessing: of the images for an exported folder, or None.
    """

    backend: Backend
    stages_for: Callable[[Sequence[int]], list[FusedStage]]
    costs: Callable[[], CostTable]
    policies: tuple[ExitPolicy, ...] = ()
    classes: tuple[str, ...] | None = None
    preprocessing: Prepares | None = None


class _Choice(NamedTuple):
    """What the user has chosen, checked; see `EarlyExitEngine`."""

    backend: str
    device: torch.device | str | None
    precision: Precision
    threads: int | None
    batch_sizes: tuple[int, ...] | None
    cache: Path

    def fastest(self, names: Sequence[str], make: Callable[[str], Backend], fingerprint: str) -> Backend:
        """Return the backend that was chosen, or the fastest of these."""
        candidates = names if self.backend == "auto" else [self.backend]
        return fastest(candidates, make, fingerprint, self.precision, self.threads, self.batch_sizes, self.cache)

    def runtime(self, name: str, source: GraphSource) -> Backend:
        """Return ONNX Runtime or OpenVINO for the graphs of a source."""
        return graph_backend(name, source, self.precision, self.threads, self.batch_sizes)


def graph_backend(
    name: str, source: GraphSource, precision: Precision, threads: int | None, batch_sizes: Sequence[int] | None
) -> Backend:
    """Return ONNX Runtime or OpenVINO for the graphs of a source; the batch sizes are for OpenVINO."""
    if name == "onnxruntime":
        from ranet.inference.runtimes.onnxruntime_backend import OnnxRuntimeBackend

        return OnnxRuntimeBackend(source, threads=threads, precision=precision)
    from ranet.inference.runtimes.openvino_backend import BATCH_SIZES, OpenVinoBackend

    return OpenVinoBackend(source, threads=threads, precision=precision, batch_sizes=batch_sizes or BATCH_SIZES)


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


def open_network(
    network: StagedNetwork | str | Path,
    backend: str,
    device: torch.device | str | None,
    precision: str,
    threads: int | None,
    batch_sizes: Sequence[int] | None,
    cache: str | Path | None,
) -> Opened:
    """Open a network in a backend; the arguments are those of `EarlyExitEngine`."""
    if backend not in (*BACKENDS, "auto"):
        raise unknown_name("backend", backend, (*BACKENDS, "auto"))
    if precision not in PRECISIONS:
        raise unknown_name("precision", str(precision), PRECISIONS)
    if threads is not None:
        require_count("threads", threads)
    if batch_sizes is not None:
        batch_sizes = require_counts("batch_sizes", batch_sizes)
        if backend in ("torch", "onnxruntime"):
            raise UserError(f"The backend {backend} computes batches of any size; leave out batch_sizes.")
    choice = _Choice(
        backend, device, precision, threads, batch_sizes, default_cache() if cache is None else Path(cache)
    )
    if isinstance(network, str | Path):
        return _open_folder(Path(network), choice)
    if not hasattr(network, "named_modules"):
        raise UserError(f"An engine runs a network or an exported folder, not {type(network).__name__}.")
    return _open_network(network, choice)


def _open_network(network: StagedNetwork, choice: _Choice) -> Opened:
    import torch

    from ranet.cost.profile import measure_costs
    from ranet.inference.runtimes.torch_backend import TorchBackend
    from ranet.models.fingerprint import network_fingerprint
    from ranet.models.staged_checks import check_network

    check_network(network)
    try:
        place = torch.device(next(network.parameters()).device if choice.device is None else choice.device)
    except RuntimeError as error:  # whose message lists twenty kinds of devices
        raise UserError(f"There is no device {str(choice.device)!r}; say cpu, cuda or cuda:1.") from error
    on_gpu = place.type != "cpu"
    if on_gpu and choice.backend not in ("auto", "torch"):
        raise UserError(
            f"The backend {choice.backend} runs on the processor here; leave out device={choice.device} or use torch."
        )
    graphs: list[GraphSource] = []

    def make(name: str) -> Backend:
        if name == "torch":
            if choice.threads is not None:
                torch.set_num_threads(choice.threads)
            return TorchBackend(network, place, choice.precision)
        if not graphs:
            from ranet.inference.graphs.of_network import NetworkGraphs

            graphs.append(NetworkGraphs(network, choice.cache / "graphs"))
        return choice.runtime(name, graphs[0])

    names = installed_backends(choice.precision, exported=False, on_gpu=on_gpu)
    return Opened(
        choice.fastest(names, make, network_fingerprint(network)),
        fused_stages,
        lambda: measure_costs(network).table("macs"),
    )


def _open_folder(path: Path, choice: _Choice) -> Opened:
    from ranet.inference.exported.folder import ExportedFolder
    from ranet.inference.exported.golden import check_golden

    folder = ExportedFolder(path)
    if choice.backend == "torch":
        raise UserError("An exported folder holds ONNX graphs; run it with backend=onnxruntime or backend=openvino.")
    if choice.device is not None and str(choice.device) != "cpu":
        raise UserError(f"An exported folder runs on the processor; leave out device={choice.device}.")
    names = installed_backends(choice.precision, exported=True, on_gpu=False)
    if not names and choice.backend == "auto":
        extras = 'pip install "ranet[openvino]"' + (' or "ranet[onnx]"' if choice.precision == "float32" else "")
        raise UserError(f"No runtime for an exported folder is installed: {extras}.")
    if folder.manifest.golden is not None and folder.preprocessing is not None:
        check_golden(path, folder.manifest.golden, folder.preprocessing)
    return Opened(
        choice.fastest(names, lambda name: choice.runtime(name, folder), folder.facts.fingerprint),
        folder.stages_for,
        lambda: folder.costs("macs"),
        tuple(folder.policies),
        folder.classes,
        folder.preprocessing,
    )
