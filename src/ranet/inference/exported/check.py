"""Whether exported graphs say what the network says: every stage, run in ONNX Runtime, beside PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Collection

import numpy as np
import torch

from ranet.inference.runtimes.backend import State
from ranet.inference.runtimes.onnxruntime_backend import OnnxRuntimeBackend
from ranet.inference.runtimes.stage_graph import GraphSource
from ranet.inference.stages.fused_stages import FusedStage
from ranet.models.staged import StagedNetwork

IMAGES = 3
SEED = 0


def largest_difference(network: StagedNetwork, graphs: GraphSource, stages: Collection[FusedStage]) -> float:
    """Return how far the logits of exported stages are from those of the network, on a few random images.

    Every stage is run once, on a state that other stages have computed from the images.

    Args:
        network: in PyTorch; it is not changed.
        graphs: of the stages.
        stages: such that a chain of them leads from the images to each.

    Returns:
        The largest difference of a logit at the end of any stage, divided by the largest logit of that exit; NaN if
        there is one among the logits.
    """
    reference = copy.deepcopy(network).to("cpu", torch.float32).eval()
    images = torch.randn(IMAGES, *network.image_shape, generator=torch.Generator().manual_seed(SEED))
    with torch.inference_mode():
        expected = reference(images).numpy()
    backend = OnnxRuntimeBackend(graphs)
    states: dict[int, State] = {-1: (images.numpy(),)}  # behind each exit
    differences = []
    for stage in sorted(stages):  # by where they start: what leads there has run
        logits, after = backend.run(stage, states[stage.first - 1], IMAGES)
        states.setdefault(stage.last, after)
        largest = np.abs(expected[stage.last]).max()
        differences.append(np.abs(logits - expected[stage.last]).max() / (largest if largest > 0 else 1.0))
    return float(np.max(differences))
