"""Where the reference weights, counts and real data lie, when they lie beside the checkout."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    for folder in Path(__file__).resolve().parents:
        if (folder / "shared" / "spec" / "golden_costs.json").is_file():
            return folder / "shared"
    pytest.skip("shared/ with the reference networks' counts, weights and real data is not beside this checkout")
