"""From what the user has, a network or an exported folder, to a backend that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies import ExitPolicy
from ranet.errors import UserError, unknown_name
from ranet.files import default_cache
from ranet.inference.backend import PRECISIONS, Backend, Precision
from ranet.inference.fastest import fastest
from ranet.inference.fused_stages import FusedStage, fused_stages
from ranet.inference.graphs import GraphSource
from ranet.inference.options import require_count, require_counts

if TYPE_CHECKING:
    import torch

    from ranet.models import StagedNetwork

BACKENDS = ("torch", "onnxruntime", "openvino")


class Opened(NamedTuple):
    """A network that can run, and what is known of it.

    Attributes:
        backend: that runs it.
        stages_for: the fused stages that end at given exits.
        costs: gives (K,) the MACs of each exit as the engine computes it, and their name.
        policies: of an exported folder.
        classes: names of the classes, or None.
        preprocessing: of an exported folder, or None.
    """

    backend: Backend
    stages_for: Callable[[Sequence[int]], list[FusedStage]]
    costs: Callable[[], tuple[npt.NDArray[np.float64], str]]
    policies: tuple[ExitPolicy, ...] = ()
    classes: tuple[str, ...] | None = None
    preprocessing: dict[str, Any] | None = None


def installed_backends(precision: Precision, *, exported: bool, on_gpu: bool) -> list[str]:
    """The backends that can run here: PyTorch alone on a GPU, and not for an exported folder."""
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
    folder = Path(cache) if cache is not None else default_cache()
    if isinstance(network, str | Path):
        return _open_folder(Path(network), backend, device, precision, threads, batch_sizes, folder)
    if not hasattr(network, "num_exits"):
        raise UserError(f"An engine runs a network or an exported folder, not {type(network).__name__}.")
    return _open_network(network, backend, device, precision, threads, batch_sizes, folder)


def _open_network(
    network: StagedNetwork,
    backend: str,
    device: torch.device | str | None,
    precision: Precision,
    threads: int | None,
    batch_sizes: Sequence[int] | None,
    cache: Path,
) -> Opened:
    import torch

    from ranet.cost import measure_costs
    from ranet.inference.torch_backend import TorchBackend
    from ranet.models import network_fingerprint

    try:
        place = torch.device(next(network.parameters()).device if device is None else device)
    except RuntimeError as error:  # whose message lists twenty kinds of devices
        raise UserError(f"There is no device {str(device)!r}; say cpu, cuda or cuda:1.") from error
    on_gpu = place.type != "cpu"
    if on_gpu and backend not in ("auto", "torch"):
        raise UserError(f"The backend {backend} runs on the processor here; leave out device={device} or use torch.")
    graphs: list[GraphSource] = []

    def make(name: str) -> Backend:
        if name == "torch":
            if threads is not None:
                torch.set_num_threads(threads)
            return TorchBackend(network, place, precision)
        if not graphs:
            from ranet.inference.onnx_graphs import NetworkGraphs

            graphs.append(NetworkGraphs(network, cache / "graphs"))
        return _runtime(name, graphs[0], precision, threads, batch_sizes)

    names = installed_backends(precision, exported=False, on_gpu=on_gpu) if backend == "auto" else [backend]

    def count(lazy: bool) -> list[int]:
        return measure_costs(network, network.image_size).per_exit("macs", lazy)

    return Opened(
        fastest(names, make, network_fingerprint(network), precision, threads, batch_sizes, cache),
        fused_stages,
        partial(_macs, count),
    )


def _open_folder(
    path: Path,
    backend: str,
    device: torch.device | str | None,
    precision: Precision,
    threads: int | None,
    batch_sizes: Sequence[int] | None,
    cache: Path,
) -> Opened:
    from ranet.inference.exported_folder import ExportedFolder

    folder = ExportedFolder(path)
    if backend == "torch":
        raise UserError("An exported folder holds ONNX graphs; run it with backend=onnxruntime or backend=openvino.")
    if device is not None and str(device) != "cpu":
        raise UserError(f"An exported folder runs on the processor; leave out device={device}.")
    names = installed_backends(precision, exported=True, on_gpu=False) if backend == "auto" else [backend]
    if not names:
        extras = 'pip install "ranet[openvino]"' + (' or "ranet[onnx]"' if precision == "float32" else "")
        raise UserError(f"No runtime for an exported folder is installed: {extras}.")
    opened = fastest(
        names,
        lambda name: _runtime(name, folder, precision, threads, batch_sizes),
        folder.facts.fingerprint,
        precision,
        threads,
        batch_sizes,
        cache,
    )
    return Opened(
        opened,
        folder.stages_for,
        partial(_macs, lambda lazy: folder.costs_per_exit("lazy_macs" if lazy else "macs")),
        tuple(folder.policies),
        folder.classes,
        folder.preprocessing,
    )


def _runtime(
    name: str, source: GraphSource, precision: Precision, threads: int | None, batch_sizes: Sequence[int] | None
) -> Backend:
    if name == "onnxruntime":
        from ranet.inference.onnxruntime_backend import OnnxRuntimeBackend

        return OnnxRuntimeBackend(source, threads=threads, precision=precision)
    from ranet.inference.openvino_backend import OpenVinoBackend

    if batch_sizes is None:
        return OpenVinoBackend(source, threads=threads, precision=precision)
    return OpenVinoBackend(source, threads=threads, precision=precision, batch_sizes=tuple(batch_sizes))


def _macs(count: Callable[[bool], npt.ArrayLike]) -> tuple[npt.NDArray[np.float64], str]:
    """What exits cost in MACs: lazily, since the engine computes an MSDNet so, and named so where that is less."""
    lazy, whole = (np.asarray(count(each), dtype=np.float64) for each in (True, False))
    return lazy, "macs" if np.array_equal(lazy, whole) else "lazy_macs"
