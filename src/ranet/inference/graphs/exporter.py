"""From a PyTorch module to an ONNX model, without the exporter's remarks about itself."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ranet.errors import UserError, first_line
from ranet.support.extras import require

log = logging.getLogger(__name__)


def exported(
    module: nn.Module, shape: Sequence[int], called: str, names: tuple[Sequence[str], Sequence[str]] | None = None
) -> Any:
    """Return a module on the CPU, in evaluation mode, as an ONNX model (onnx.ModelProto) for any number of images.

    Args:
        module: from images (B, C, H, W) to tensors.
        shape: (C, H, W) of an image.
        called: what the user knows it by.
        names: of the inputs, and of the outputs; by default the exporter's.

    Raises:
        UserError: if PyTorch cannot export it, or the packages that it needs are missing.
    """
    for package in ("onnx", "onnxscript"):
        require(package, "onnx", "The export of a network")
    # Two images, because PyTorch takes a size of one for a constant.
    images = torch.zeros(2, *shape)
    log.info("Exporting the %s as an ONNX graph; this takes some seconds.", called)
    inputs, outputs = names if names is not None else (None, None)
    try:
        with _quietly():
            program = torch.onnx.export(
                module,
                (images,),
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise UserError(
            f"PyTorch cannot export this {called} as an ONNX graph, so use the torch backend "
            f"({first_line(error.__cause__ or error)})."
        ) from error
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's remarks about itself; what goes wrong is raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
