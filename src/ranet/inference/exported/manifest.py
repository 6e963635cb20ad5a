"""The manifest of an exported folder, which describes its files (pydantic models)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from ranet.errors import UserError
from ranet.inference.runtimes.backend import NetworkFacts
from ranet.inference.runtimes.stage_graph import StageGraph
from ranet.inference.stages.fused_stages import FusedStage, reachable_cuts
from ranet.support.records import Count, Name, Part, Record, Row, Sha256, Text, like
from ranet.support.shapes import ImageSize, TensorSpec, checked_image_size
from ranet.support.strict_json import shown

MANIFEST = "manifest.json"


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len({getattr(value, "name", value) for value in values}) < len(values):
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


File = Annotated[str, AfterValidator(_file)]
Natural = Annotated[int, Field(ge=0)]
Names = Annotated[Row[Name], Field(min_length=1), AfterValidator(_distinct)]
State = Annotated[Row[Tensor], AfterValidator(_distinct)]


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
    """The file of a `FusedStage` in the folder, its length and its checksum, and its `StageGraph`."""

    first: Natural
    last: Natural
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
        """Return the graph, whose file has this path."""
        before, after = (tuple(TensorSpec(one.name, one.shape) for one in state) for state in (self.before, self.after))
        return StageGraph(path, before, self.inputs, self.logits, after)


class Golden(Part):
    """The files of `write_golden`."""

    picture: File
    arrays: File


class Data(Part):
    """The data that a network was trained on."""

    name: Name
    classes: Row[Text]
    digests: dict[str, Text]


class Table(Part):
    """A `ranet.cost.CostTable`; below the diagonal the stages have 0."""

    stages: Annotated[Row[Row[Natural]], Field(min_length=1)]
    parts: Row[Natural]


class Costs(Part):
    """The counted operations in each unit of `ranet.cost.CostProfile.table`."""

    macs: Table
    paper_ops: Table


UNITS = tuple(Costs.model_fields)


class Manifest(Record):
    """The content of a manifest.

    Attributes:
        network: the `facts`, without the cuts.
        stages: files of the fused stages.
        policies: names of the policy files.
        preprocessing: steps from an image to the network's input, as `Preprocessing.to_dict` gives them; None if they
            are not known.
        golden: entries of `Golden`; None without preprocessing.
        classes: names of the C classes in the order of the labels; None if they are not known.
        data: entries of `Data`; None if they are not known.
        costs: counted operations.
        software: versions of the packages that wrote the folder.
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
        """The facts of the network, whose cuts are the exits at which a chain of the stages can end."""
        return NetworkFacts(**self.network.model_dump(), cuts=reachable_cuts([each.stage for each in self.stages]))

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        """Check the entries against each other."""
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


def exported_files(folder: Path) -> set[str]:
    """Return the names of the files of an export of any version; raise a UserError if the folder is not an export."""
    path = manifest_file(folder)
    content = Manifest.content(path)
    Manifest.require_seal(path, content)
    try:
        golden = (content.get("golden") or {}).values()
        return {MANIFEST, *content["policies"], *golden, *(stage["file"] for stage in content["stages"])}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"The manifest {str(path)!r} names no files: {Manifest.AGAIN}.") from error


def manifest_file(folder: Path) -> Path:
    """Return the path of the manifest of an exported folder; raise a UserError if there is no folder or no manifest."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"The exported folder {str(folder)!r} {what}; ranet export writes one.")
    if not (folder / MANIFEST).exists():
        raise UserError(f"The folder {str(folder)!r} is not an export: it has no {MANIFEST}; {Manifest.AGAIN}.")
    return folder / MANIFEST
