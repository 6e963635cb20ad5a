"""A folder that `ranet export` wrote, read without PyTorch and ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import file_digest
from pathlib import Path

import numpy as np

from ranet.calibration.policies.exit_policy import ExitPolicy, load_policy
from ranet.cost.table import CostTable
from ranet.errors import UserError, require_known
from ranet.images.canvas import prepares_from_dict
from ranet.images.preprocessing import Prepares
from ranet.inference.exported.manifest import UNITS, Manifest, StageFile, manifest_file
from ranet.inference.runtimes.stage_graph import StageGraph
from ranet.inference.stages.fused_stages import FusedStage, chain_through, used_exits
from ranet.support.files import restore_folder


class ExportedFolder:
    """The fused stages of an exported network (a `GraphSource`), its policies, and the other entries of its manifest.

    Opening the folder checks the manifest, the policies, and the length of every stage file; asking for a stage checks
    the content of its file. The policy files may be replaced by others of the same network whose stages are there.

    Attributes:
        path: the folder.
        manifest: the content of its manifest.
        facts: of the network; ``cuts`` are the exits at which a chain of the exported stages can end.
        policies: at least one; the first is the one to follow unless another is asked for.
        preprocessing: steps from an image to the network's input; None if they are not known.
        classes: the names of the classes in the order of the labels; None if they are not known.

    Raises:
        UserError: if it is not an exported folder, or a part of it is missing, damaged, or of another network.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        restore_folder(self.path)
        self.manifest = Manifest.read(manifest_file(self.path))
        self.facts = self.manifest.facts
        self.classes = self.manifest.classes
        self._stages = {file.stage: file for file in self.manifest.stages}
        for file in self.manifest.stages:
            self._checked_path(file)
        self.preprocessing = self._preprocessing()
        self.policies = [self._policy(self.path / name) for name in self.manifest.policies]

    @property
    def stages(self) -> list[FusedStage]:
        """The fused stages that were exported, by where they start."""
        return sorted(self._stages)

    def graph(self, stage: FusedStage) -> StageGraph:
        """Return the graph of a fused stage, as the path of its file.

        Raises:
            UserError: if the stage was not exported, or its file is missing, damaged or of another stage.
        """
        if stage not in self._stages:
            raise UserError(
                f"The export {str(self.path)!r} has no graph of {stage_name(stage)}: {self._what_is_there}."
            )
        file = self._stages[stage]
        path = self._checked_path(file)
        with path.open("rb") as content:
            if file_digest(content, "sha256").hexdigest() != file.sha256:
                raise UserError(
                    f"The stage file {str(path)!r} is not the one that was exported (its checksum does not fit): "
                    "export the network again with ranet export."
                )
        return file.graph(path)

    def stages_for(self, exits: Sequence[int]) -> list[FusedStage]:
        """Return the fewest exported stages that, one after the other, answer at each of these exits (from 0).

        Where no exported stage runs from one of the exits to the next, several shorter stages do. They also answer at
        exits between these, which a policy does not use.

        Raises:
            UserError: if no chain of exported stages ends at each of the exits.
        """
        chain = chain_through(exits, self._stages)
        if chain is None:
            raise UserError(f"The export {str(self.path)!r} cannot answer at {_listed(exits)}: {self._what_is_there}.")
        return chain

    def costs(self, unit: str = "macs") -> CostTable:
        """Return the counted operations in a unit of `ranet.cost.CostProfile.table`."""
        require_known("unit", unit, UNITS)
        counted = getattr(self.manifest.costs, unit)
        return CostTable(unit, np.array(counted.stages, dtype=np.float64), np.array(counted.parts, dtype=np.float64))

    def _checked_path(self, file: StageFile) -> Path:
        """Return the path of a stage file, which is there and has the right length."""
        path = self.path / file.file
        if not path.is_file():
            raise UserError(
                f"The stage file {str(path)!r} of the export is missing: copy the whole folder, or export the network "
                "again with ranet export."
            )
        length = path.stat().st_size
        if length != file.bytes:
            raise UserError(
                f"The stage file {str(path)!r} has {length} bytes and was exported with {file.bytes}, perhaps it was "
                "cut off: copy the whole folder, or export the network again with ranet export."
            )
        return path

    def _preprocessing(self) -> Prepares | None:
        if self.manifest.preprocessing is None:
            return None
        preprocessing = prepares_from_dict(self.manifest.preprocessing)
        owner = f"The export {str(self.path)!r}"
        preprocessing.require_shape(self.facts.input_shape, owner, "export the network again with ranet export")
        return preprocessing

    def _policy(self, path: Path) -> ExitPolicy:
        """Return a policy of the folder, which its stages can follow."""
        policy = load_policy(path)
        if policy.num_exits != self.facts.num_exits:
            raise UserError(
                f"The policy {str(path)!r} is for {policy.num_exits} exits and the exported network has "
                f"{self.facts.num_exits}: export the network again with its own policy."
            )
        policy.require_network(self.facts.fingerprint)
        self.stages_for(used_exits(policy))
        return policy

    @property
    def _what_is_there(self) -> str:
        """The end of the sentence about a missing stage."""
        stages = ", ".join(stage_name(stage).split()[1] for stage in self.stages)
        return (
            f"its stages are {stages}, which end at {_listed(self.facts.cuts)}; export the network again with this "
            "policy, or with all_exits=true"
        )


def stage_name(stage: FusedStage) -> str:
    """Return the name of a fused stage, counted from 1.

    Example:
        >>> stage_name(FusedStage(0, 0)), stage_name(FusedStage(1, 3))
        ('stage 1', 'stages 2-4')
    """
    first, last = stage.first + 1, stage.last + 1
    return f"stage {first}" if first == last else f"stages {first}-{last}"


def _listed(exits: Sequence[int]) -> str:
    numbers = ", ".join(str(k + 1) for k in exits)
    return f"exit {numbers}" if len(exits) == 1 else f"exits {numbers}"
