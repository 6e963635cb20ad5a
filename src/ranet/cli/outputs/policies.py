"""Where ranet calibrate writes its policies."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from ranet.calibration.policies.exit_policy import FORMAT, ONE_POLICY, SEVERAL_POLICIES, ExitPolicy
from ranet.cli.outputs.run_folder import has_record
from ranet.errors import UserError

_RESULTS = (
    *(ONE_POLICY, "calibration.csv", "calibration.png", "static_exits.csv", "latency.json"),
    *("scores_validation.npz", "scores_test.npz"),
)


def policy_paths(count: int, output: str | None, folder: Path) -> list[Path]:
    """Return the file of one policy, or the numbered files of several in a folder: ``output``, or in the run's folder.

    Raises:
        UserError: if a folder or another file is at such a path.
    """
    if count == 1:
        path = Path(output) if output else folder / ONE_POLICY
        _check_target(path)
        return [path]
    into = Path(output) if output else folder / SEVERAL_POLICIES
    if into.suffix == ".json" or (into.exists() and not into.is_dir()):
        raise UserError(f"output={into} names a file; {count} policies need a folder.")
    width = len(str(count))
    paths = [into / f"policy_{number:0{width}}.json" for number in range(1, count + 1)]
    for path in {*paths, *into.glob("policy_*.json")}:
        _check_target(path)
    return paths


def earlier_results(folder: Path, inputs: Collection[str | None]) -> set[Path]:
    """Return the files of an earlier calibration, if there is a record of one, but for inputs of this calibration.

    They are to be removed so that all files in the folder are of one run.
    """
    if not has_record(folder):
        return set()
    read = {Path(name).resolve() for name in inputs if name is not None}
    left = {*(folder / name for name in _RESULTS), *(folder / SEVERAL_POLICIES).glob("policy_*.json")}
    return {path for path in left if path.resolve() not in read}


def forget(earlier: Collection[Path], written: Collection[Path]) -> None:
    """Remove earlier results that were not replaced.

    Call it last: if something cannot be written, the earlier results stay.
    """
    new = {path.resolve() for path in written}
    for path in earlier:
        if path.resolve() not in new:
            path.unlink(missing_ok=True)
    for folder in {path.parent for path in earlier if path.parent.name == SEVERAL_POLICIES}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def write_policies(policies: Sequence[ExitPolicy], paths: Sequence[Path]) -> None:
    """Write policies to their `policy_paths`, cheapest first, and remove other policies of the folder."""
    for path, policy in zip(paths, sorted(policies, key=lambda one: one.promise.cost), strict=True):
        policy.save(path)
    if len(paths) > 1:
        forget(set(paths[0].parent.glob("policy_*.json")), paths)


def _check_target(path: Path) -> None:
    """Refuse to replace a file that is not a policy."""
    if path.is_dir():
        raise UserError(f"output={path} is a folder; name the file in it, such as {path / ONE_POLICY}.")
    try:
        is_policy = not path.exists() or json.loads(path.read_bytes())["format"] == FORMAT
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        is_policy = False
    if not is_policy:
        raise UserError(f"{path} exists and is not an exit policy; choose another output=.")
