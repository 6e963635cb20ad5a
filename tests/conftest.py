"""Where the reference weights, counts and real data lie, when they lie beside the checkout."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

# Small networks are no faster on several threads, and much slower where the machine has other things to do.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    for folder in Path(__file__).resolve().parents:
        if (folder / "shared" / "spec" / "golden_costs.json").is_file():
            return folder / "shared"
    pytest.skip("shared/ with the reference networks' counts, weights and real data is not beside this checkout")


@pytest.fixture(scope="session")
def cifar_root(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official CIFAR-10 and CIFAR-100 files."""
    root = tmp_path_factory.mktemp("cifar")
    script = shared / "data" / "restore_cifar.py"
    folders = ["cifar-10-batches-py", "cifar-100-python"]
    subprocess.run([sys.executable, script, root, *folders], check=True, capture_output=True)
    return root
