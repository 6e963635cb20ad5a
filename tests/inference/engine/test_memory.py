"""An engine holds no more memory than the whole network, however large the batch."""

import subprocess
import sys

import pytest

PEAK = """
import resource, sys
import numpy as np, torch
from ranet import EarlyExitEngine, ExitPolicy, create_network

torch.set_num_threads(1)
network = create_network("msdnet_small").eval()
images = np.zeros((1024, 3, 32, 32), dtype=np.float32)
to_the_last = ExitPolicy((2.0,) * (network.num_exits - 1))
if sys.argv[1] == "whole":
    with torch.inference_mode():
        network(torch.from_numpy(images))
else:
    engine = EarlyExitEngine(network, to_the_last, backend=sys.argv[1])
    engine(images)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(what: str) -> int:
    """The most memory, in KiB, that a process has held that answered 1,024 images."""
    run = subprocess.run([sys.executable, "-c", PEAK, what], check=True, capture_output=True, text=True)
    return int(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_a_batch_of_a_thousand_takes_no_more_memory_than_the_whole_network(backend: str) -> None:
    pytest.importorskip(backend)
    assert peak(backend) <= peak("whole")
