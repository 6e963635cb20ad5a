"""A process that keeps freed memory does not fetch it again from the system."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from ranet.training.run.process_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(64 * 2**20 // 4)  # more than glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
print(keep_freed_memory())
faults()
print(before, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
@pytest.mark.slow
def test_freed_memory_is_used_again() -> None:
    out = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout.split()
    if "False" in out[:1]:
        pytest.skip("not glibc")
    before, after = map(int, out[1:])
    pages = 5 * 64 * 2**20 // 4096
    if before < pages // 2:
        pytest.skip("this system fetches large pages")
    assert after < pages // 20
