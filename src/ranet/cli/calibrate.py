"""ranet calibrate: from a budget to an exit policy."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from ranet.calibration import budget_in_cost, calibrate
from ranet.cli.edge import command
from ranet.cli.evaluate import score
from ranet.cli.run_folder import run_folder, write_record
from ranet.cli.trained import check_unit, load_network_and_data
from ranet.cost import measure_costs
from ranet.errors import UserError
from ranet.evaluation import policy_report


@command("calibrate")
def main(config: DictConfig) -> None:
    """Calibrate, as the configuration says."""
    check_unit(config.unit, "fraction")
    budget = config.budget
    if isinstance(budget, bool) or not isinstance(budget, int | float):
        raise UserError(f"budget={budget} must be a number, such as budget=40e6.")
    trained, data = load_network_and_data(config)
    if not len(data.val_dataloader()):
        raise UserError(
            "There are no validation images to calibrate on: the network was trained with data.validation_size=0; "
            "train it again with a validation split."
        )
    unit = "macs" if config.unit == "fraction" else config.unit
    costs = measure_costs(trained.network, data.image_size).per_exit(unit, config.lazy)
    absolute = budget_in_cost(budget, config.unit, costs)

    scores = score(trained, data, "validation")
    metadata = {
        "network": trained.recipe["network"],
        "checkpoint": str(trained.path.resolve()),
        "data": data.name,
        "validation": data.fingerprint("validation"),
    }
    result = calibrate(scores, costs, absolute, unit=f"lazy_{unit}" if config.lazy else unit, metadata=metadata)
    folder = run_folder()
    path = Path(config.output) if config.output else folder / "policy.json"
    result.policy.save(path)
    write_record(folder, config)
    scores.save(folder / "scores_validation.npz")
    console = Console()
    console.print(policy_report(result.policy, scores).table(seen_on="on validation"))
    console.print(f"Policy written to {path}", soft_wrap=True, markup=False)
