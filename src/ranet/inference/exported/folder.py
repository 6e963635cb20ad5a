"""A folder that `ranet export` wrote, read without PyTorch and ONNX: all that an engine far from the training needs."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from ranet.calibration.policies.exit_policy import ExitPolicy, load_policy
from ranet.cost.table import CostTable
from ranet.errors import UserError, unknown_name
from ranet.images.canvas import prepares_from_dict
from ranet.images.preprocessing import Prepares
from ranet.inference.exported.manifest import UNITS, StageFile, read_manifest
from ranet.inference.runtimes.stage_graph import StageGraph
from ranet.inference.stages.chains import chain_through
from ranet.inference.stages.fused_stages import FusedStage, used_exits
from ranet.support.files import restore_folder


class ExportedFolder:
    """The fused stages of an exported network (a `GraphSource`), its policies, and what else its manifest says.

    What is there is looked at when the folder is opened: the manifest, the policies, and that every stage has its file
    of the right length. The content of a file is compared with the manifest's checksum when its stage is asked for.

    The policy files may be replaced by others of the same network, as long as the stages that they need are there.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
        manifest: what its manifest says.
        facts: of the network; ``cuts`` are the exits at which a chain of the exported stages can end.
        policies: at least one; the first is the one to follow unless another is asked for.
        preprocessing: how an image becomes what the network reads; None if the export was not told.
        classes: the names of the classes in the order of the labels; None if the export was not told.

    Raises:
        UserError: if it is no such folder, or something in it is missing, damaged, or of another network.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        restore_folder(self.path)
        self.manifest = read_manifest(self.path)
        self.facts = self.manifest.facts
        self.classes = self.manifest.classes
        self._stages = {file.stage: file for file in self.manifest.stages}
        # When the content of a file was last written whose checksum is known to fit: backends ask for graphs often.
        self._checked: dict[FusedStage, int] = {}
        for file in self.manifest.stages:
            self._check_length(file)
        self.preprocessing = self._checked_preprocessing()
        self.policies = [self._policy(name) for name in self.manifest.policies]

    @property
    def stages(self) -> list[FusedStage]:
        """The fused stages that were exported, by where they start."""
        return sorted(self._stages)

    def graph(self, stage: FusedStage) -> StageGraph:
        """The graph of a fused stage that was exported, as the path of its file.

        Raises:
            UserError: if it was not exported, or its file is missing, damaged or of another stage.
        """
        if stage not in self._stages:
            raise UserError(
                f"The export {str(self.path)!r} has no graph of {stage_name(stage)}: {self._what_is_there}."
            )
        file = self._stages[stage]
        self._check_length(file)
        path = self.path / file.file
        if self._checked.get(stage) != path.stat().st_mtime_ns:
            self._check_content(path, file)
            self._checked[stage] = path.stat().st_mtime_ns
        return file.graph(path)

    def stages_for(self, exits: Sequence[int]) -> list[FusedStage]:
        """The fewest exported stages that, one after the other, answer at each of these exits.

        Where no exported stage runs from one of the exits to the next, a chain of shorter ones does. The chain then
        also answers at exits between, which the policy does not use.

        Args:
            exits: from 0, ascending, as `used_exits` gives them for a policy.

        Raises:
            UserError: if no chain of exported stages ends at each of the exits.
        """
        chain = chain_through(exits, self._stages)
        if chain is None:
            numbers = _listed([k + 1 for k in exits])
            raise UserError(f"The export {str(self.path)!r} cannot answer at {numbers}: {self._what_is_there}.")
        return chain

    def costs(self, unit: str = "macs") -> CostTable:
        """Return the counted operations in a unit of `ranet.cost.CostProfile.table`.

        Raises:
            UserError: if the unit is not known.
        """
        if unit not in UNITS:
            raise unknown_name("unit", unit, UNITS)
        counted = getattr(self.manifest.costs, unit)
        return CostTable(unit, np.array(counted.stages, dtype=np.float64), np.array(counted.parts, dtype=np.float64))

    def _check_length(self, file: StageFile) -> None:
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

    def _check_content(self, path: Path, file: StageFile) -> None:
        with path.open("rb") as content:
            digest = sha256()
            while part := content.read(2**20):
                digest.update(part)
        if digest.hexdigest() != file.sha256:
            raise UserError(
                f"The stage file {str(path)!r} is not the one that was exported (its checksum does not fit): export "
                "the network again with ranet export."
            )

    def _checked_preprocessing(self) -> Prepares | None:
        if self.manifest.preprocessing is None:
            return None
        preprocessing = prepares_from_dict(self.manifest.preprocessing)
        owner = f"The export {str(self.path)!r}"
        preprocessing.require_shape(self.facts.input_shape, owner, "export the network again with ranet export")
        return preprocessing

    def _policy(self, name: str) -> ExitPolicy:
        """A policy of the folder, which its stages can follow."""
        path = self.path / name
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
        """The end of the sentence about what was not exported."""
        stages = ", ".join(stage_name(stage).split()[1] for stage in self.stages)
        return (
            f"its stages are {stages}, which end at {_listed([cut + 1 for cut in self.facts.cuts])}; export the "
            "network again with this policy, or with all_exits=true"
        )


def stage_name(stage: FusedStage) -> str:
    """A fused stage as people count.

    Example:
        >>> stage_name(FusedStage(0, 0)), stage_name(FusedStage(1, 3))
        ('stage 1', 'stages 2-4')
    """
    first, last = stage.first + 1, stage.last + 1
    return f"stage {first}" if first == last else f"stages {first}-{last}"


def _listed(exits: Sequence[int]) -> str:
    numbers = ", ".join(map(str, exits))
    return f"exit {numbers}" if len(exits) == 1 else f"exits {numbers}"
