"""The manifest of an exported folder: a record of what each file is (pydantic models)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from ranet.errors import UserError
from ranet.inference.runtimes.backend import NetworkFacts
from ranet.inference.runtimes.stage_graph import StageGraph
from ranet.inference.stages.chains import reachable_cuts
from ranet.inference.stages.fused_stages import FusedStage
from ranet.support.records import Count, Name, Part, Record, Row, Sha256, Text, like
from ranet.support.shapes import ImageSize, TensorSpec, checked_image_size
from ranet.support.strict_json import shown

MANIFEST = "manifest.json"


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must have each name once")
    return values


def _file(name: str) -> str:
    if not re.fullmatch(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*", name, re.ASCII):
        raise ValueError("must be a file of the folder, or of a folder in it")
    return name


class Tensor(Part):
    """A tensor of a state, its shape without the batch."""

    name: Name
    shape: Row[Count]


def _distinct_names(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    _distinct(tuple(tensor.name for tensor in state))
    return state


File = Annotated[str, AfterValidator(_file)]
Exit = Annotated[int, Field(ge=0)]
Names = Annotated[Row[Name], Field(min_length=1), AfterValidator(_distinct)]
State = Annotated[Row[Tensor], AfterValidator(_distinct_names)]
Operations = Row[Annotated[int, Field(ge=0)]]


class Network(Part):
    """The facts of a network, its cuts left out: they follow from the stages."""

    num_exits: Count
    num_classes: Count
    image_size: Annotated[ImageSize, PlainValidator(checked_image_size)]
    heads_can_be_skipped: bool
    fingerprint: Name
    in_channels: Count
    optional_parts: Row[Name]


class StageFile(Part):
    """The file of a fused stage: what `StageGraph` says, and by what the file is known.

    Attributes:
        first, last: from exit to exit, from 0.
        file: its name in the folder.
        bytes: its length.
        sha256: of its content, in hexadecimal digits.
        before, inputs, logits, after: as in `StageGraph`.
    """

    first: Exit
    last: Exit
    file: File
    bytes: Count
    sha256: Sha256
    before: Annotated[State, Field(min_length=1)]
    inputs: Names
    logits: Name
    after: State

    @property
    def stage(self) -> FusedStage:
        """The fused stage."""
        return FusedStage(self.first, self.last)

    def graph(self, path: Path) -> StageGraph:
        """The graph, which lies at this path."""
        before, after = (
            tuple(TensorSpec(tensor.name, tensor.shape) for tensor in state) for state in (self.before, self.after)
        )
        return StageGraph(path, before, self.inputs, self.logits, after)


class Golden(Part):
    """The files of a picture and of what becomes of it."""

    picture: File
    arrays: File


class Data(Part):
    """The data that a network was trained on."""

    name: Name
    classes: Row[Text]
    digests: dict[str, Text]


class Table(Part):
    """A `ranet.cost.CostTable`; below the diagonal the stages have 0."""

    stages: Annotated[Row[Operations], Field(min_length=1)]
    parts: Operations


class Costs(Part):
    """The counted operations in each unit of `ranet.cost.CostProfile.table`."""

    macs: Table
    paper_ops: Table


UNITS = tuple(Costs.model_fields)


class Manifest(Record):
    """What a manifest says.

    Attributes:
        network: see `facts`.
        stages: the files of the fused stages.
        policies: the policy files, in the folder.
        preprocessing: what makes the network's input of an image; None if the export was not told.
        golden: the names of the `Golden` files; None without preprocessing.
        classes: the names of the C classes in the order of the labels; None if the export was not told.
        data: what `Data` has; None if not told.
        costs: see `Costs`.
        software: the versions that wrote the folder.
    """

    FORMAT: ClassVar[str] = "ranet exported engine"
    VERSION: ClassVar[int] = 3
    NAME: ClassVar[str] = "manifest"
    WRITER: ClassVar[str] = "ranet export"
    AGAIN: ClassVar[str] = "export the network again with ranet export"

    network: Network
    stages: Annotated[Row[StageFile], Field(min_length=1)]
    policies: Annotated[Row[File], Field(min_length=1), AfterValidator(_distinct)]
    preprocessing: dict[str, Any] | None
    golden: Annotated[dict[str, Any], like(Golden)] | None
    classes: Row[Text] | None
    data: Annotated[dict[str, Any], like(Data)] | None
    costs: Costs
    software: dict[str, Text]

    @property
    def facts(self) -> NetworkFacts:
        """The facts of the network; its cuts are the exits at which a chain of the stages can end."""
        return NetworkFacts(**self.network.model_dump(), cuts=reachable_cuts([each.stage for each in self.stages]))

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        """Check that the stages go together, that some chain of them begins at the images, and what is counted."""
        exits, classes, image = self.network.num_exits, self.network.num_classes, self.facts.input_shape
        parts = len(self.network.optional_parts)
        states: dict[int, tuple[Tensor, ...]] = {}
        for i, stage in enumerate(self.stages):
            where = f"stages[{i}]"
            if not stage.first <= stage.last < exits:
                raise ValueError(f"{where} must run from one of the {exits} exits to the same or a later one")
            if not set(stage.inputs) <= {tensor.name for tensor in stage.before}:
                raise ValueError(f"{where}.inputs must be some of the names in {where}.before")
            if stage.last == exits - 1:
                if [tensor.shape for tensor in stage.after] != ([(parts,)] if parts else []):
                    raise ValueError(f"{where}.after must hold the record of optional parts alone, if there are any")
            elif not stage.after:
                raise ValueError(f"{where}.after must be empty after the last exit and nowhere else")
            if stage.first == 0 and [tensor.shape for tensor in stage.before] != [image]:
                raise ValueError(f"{where}.before must be the images, {shown(image)}")
            for cut, state in ((stage.first - 1, stage.before), (stage.last, stage.after)):
                if cut >= 0 and states.setdefault(cut, state) != state:
                    raise ValueError(f"stages that meet behind exit {cut + 1} must have the same state there")
        for name in ("file", "stage"):
            if len({getattr(stage, name) for stage in self.stages}) < len(self.stages):
                raise ValueError(f"stages must not have the same {name} twice")
        if not self.facts.cuts:
            raise ValueError("stages must have one that starts at the images")
        if self.classes is not None and len(self.classes) != classes:
            raise ValueError(f"classes must be a name for each of the {classes} classes, or null")
        for unit, table in self.costs:
            if {len(table.stages), *map(len, table.stages)} != {exits} or len(table.parts) != parts:
                raise ValueError(
                    f"costs.{unit} must have stages of {exits} x {exits} counts and {parts} counts of optional parts"
                )
        return self


def write_manifest(folder: Path, entries: Mapping[str, Any]) -> None:
    """Write the manifest with the entries of `Manifest` into a folder; raises as `Record.write`."""
    Manifest.write(folder / MANIFEST, entries)


def read_manifest(folder: Path) -> Manifest:
    """Read what `write_manifest` wrote.

    Raises:
        UserError: if there is no folder or no manifest in it, or as `Record.read` does.
    """
    return Manifest.read(_manifest(folder))


def exported_files(folder: Path) -> set[str]:
    """The names of the files that an export of any version consists of, as its manifest has them.

    Raises:
        UserError: if the folder has no manifest that an export wrote.
    """
    path = _manifest(folder)
    content = Manifest.content(path)
    Manifest.require_seal(path, content)
    try:
        golden = (content.get("golden") or {}).values()
        return {MANIFEST, *content["policies"], *golden, *(stage["file"] for stage in content["stages"])}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"The manifest {str(path)!r} names no files: {Manifest.AGAIN}.") from error


def _manifest(folder: Path) -> Path:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"The exported folder {str(folder)!r} {what}; ranet export writes one.")
    if not (folder / MANIFEST).exists():
        raise UserError(f"The folder {str(folder)!r} is not an export: it has no {MANIFEST}; {Manifest.AGAIN}.")
    return folder / MANIFEST
