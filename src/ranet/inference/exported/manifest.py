"""The manifest of an exported folder: strict JSON that says what each file is, and whether anybody changed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranet.calibration.policies.file import checksum
from ranet.errors import UserError
from ranet.inference.exported.manifest_schema import check_manifest
from ranet.inference.runtimes.backend import NetworkFacts
from ranet.inference.stages.chains import reachable_cuts
from ranet.inference.stages.fused_stages import FusedStage
from ranet.models.specs import TensorSpec, checked_image_size
from ranet.support.files import written_whole
from ranet.support.strict_json import parse_strict_json, plain, shown, strict_json

MANIFEST = "manifest.json"
FORMAT = "ranet exported engine"
VERSION = 2
_AGAIN = "export the network again with ranet export"


@dataclass(frozen=True)
class StageFile:
    """The file of a fused stage: what `StageGraph` says, and by what the file is known.

    Attributes:
        stage: from exit to exit, from 0.
        file: its name in the folder.
        bytes: its length.
        sha256: of its content, in hexadecimal digits.
        before, inputs, logits, after: as in `StageGraph`.
    """

    stage: FusedStage
    file: str
    bytes: int
    sha256: str
    before: tuple[TensorSpec, ...]
    inputs: tuple[str, ...]
    logits: str
    after: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Manifest:
    """What a manifest says.

    Attributes:
        facts: of the network; its ``cuts`` are not in the file, they follow from the stages.
        stages: the files of the fused stages.
        policies: the policy files, in the folder.
        preprocessing: what makes the network's input of an image; None if the export was not told.
        golden: the files of a picture and of what becomes of it (see `golden`); None without preprocessing.
        classes: the names of the C classes in the order of the labels; None if the export was not told.
        data: "name", "classes" and "digests" of the data that the network was trained on; None if not told.
        costs: for each unit of `manifest_schema.UNITS` the K operation counts of the "backbone" and of the "heads".
        software: the versions that wrote the folder.
    """

    facts: NetworkFacts
    stages: tuple[StageFile, ...]
    policies: tuple[str, ...]
    preprocessing: dict[str, Any] | None
    golden: dict[str, str] | None
    classes: tuple[str, ...] | None
    data: dict[str, Any] | None
    costs: dict[str, dict[str, list[int]]]
    software: dict[str, str] = field(default_factory=dict)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into a folder, whole or not at all.

    The file has the fields of `Manifest` (of ``facts``, as "network", all but the cuts; of each stage, "first" and
    "last" as whole numbers), "format", "version", and "checksum": SHA-256, in hexadecimal digits, of the canonical JSON
    of everything else, as in a policy file.

    Raises:
        UserError: for content that `read_manifest` would refuse; nothing is written then.
    """
    network = manifest.facts._asdict()
    del network["cuts"]
    try:
        body = plain(
            {
                "format": FORMAT,
                "version": VERSION,
                "network": network,
                "stages": [_written(stage) for stage in manifest.stages],
                "policies": manifest.policies,
                "preprocessing": manifest.preprocessing,
                "golden": manifest.golden,
                "classes": manifest.classes,
                "data": manifest.data,
                "costs": manifest.costs,
                "software": manifest.software,
            }
        )
        text = strict_json({**body, "checksum": checksum(body)})
        check_manifest(parse_strict_json(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"The export cannot be written, because it could not be read again: {error}.") from error
    with written_whole(folder / MANIFEST) as partial:
        partial.write_bytes(text.encode())


def read_manifest(folder: Path) -> Manifest:
    """Read what `write_manifest` wrote.

    Raises:
        UserError: if there is no folder or no manifest in it, or it is no text, no JSON, of something else, of another
            version, was changed after it was written, or says what no export can.
    """
    where = f"The manifest {str(folder / MANIFEST)!r}"
    content = _content(folder, where)
    _check_version(content.get("version"), where)
    _check_seal(content, where)
    try:
        check_manifest(content)
    except ValueError as error:
        raise UserError(f"{where} describes no export that can be used ({error}): {_AGAIN}.") from error
    stages = tuple(_read(stage) for stage in content["stages"])
    cuts = reachable_cuts([each.stage for each in stages])
    classes = content["classes"]
    return Manifest(
        facts=NetworkFacts(
            **{**content["network"], "image_size": checked_image_size(content["network"]["image_size"])}, cuts=cuts
        ),
        stages=stages,
        policies=tuple(content["policies"]),
        preprocessing=content["preprocessing"],
        golden=content["golden"],
        classes=None if classes is None else tuple(classes),
        data=content["data"],
        costs=content["costs"],
        software=content["software"],
    )


def exported_files(folder: Path) -> set[str]:
    """The names of the files that an export of any version consists of, as its manifest has them.

    Raises:
        UserError: if the folder has no manifest that an export wrote.
    """
    where = f"The manifest {str(folder / MANIFEST)!r}"
    content = _content(folder, where)
    _check_seal(content, where)
    try:
        golden = (content.get("golden") or {}).values()
        return {MANIFEST, *content["policies"], *golden, *(stage["file"] for stage in content["stages"])}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} names no files: {_AGAIN}.") from error


def _content(folder: Path, where: str) -> dict[str, Any]:
    """The entries of a folder's manifest."""
    try:
        text = (folder / MANIFEST).read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise UserError(f"The exported folder {str(folder)!r} {what}; ranet export writes one.") from error
        raise UserError(f"The folder {str(folder)!r} is no export: it has no {MANIFEST}; {_AGAIN}.") from error
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UserError(f"{where} is no text: {_AGAIN}.") from error
    try:
        content = parse_strict_json(text)
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON ({error}), perhaps it was cut off: {_AGAIN}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f'{where} is of no export: it must be an object with "format": "{FORMAT}".')
    return content


def _check_seal(content: dict[str, Any], where: str) -> None:
    if content.get("checksum") != checksum({name: content[name] for name in content if name != "checksum"}):
        found = "its checksum does not fit" if "checksum" in content else "it has no checksum"
        raise UserError(f"{where} was changed after ranet wrote it ({found}): {_AGAIN}.")


def _check_version(found: object, where: str) -> None:
    if not isinstance(found, int) or isinstance(found, bool):
        raise UserError(f'{where} must have a whole number as "version", not {shown(found)}: {_AGAIN}.')
    if found > VERSION:
        raise UserError(
            f"{where} was written by a newer ranet (version {shown(found)}; this one reads {VERSION}): update ranet."
        )
    if found < VERSION:
        raise UserError(f"{where} has version {shown(found)} and this ranet reads {VERSION}: {_AGAIN}.")


def _written(stage: StageFile) -> dict[str, Any]:
    return {
        "first": stage.stage.first,
        "last": stage.stage.last,
        "file": stage.file,
        "bytes": stage.bytes,
        "sha256": stage.sha256,
        "before": [tensor._asdict() for tensor in stage.before],
        "inputs": stage.inputs,
        "logits": stage.logits,
        "after": [tensor._asdict() for tensor in stage.after],
    }


def _read(stage: dict[str, Any]) -> StageFile:
    before, after = (
        tuple(TensorSpec(tensor["name"], tuple(tensor["shape"])) for tensor in stage[name])
        for name in ("before", "after")
    )
    return StageFile(
        FusedStage(stage["first"], stage["last"]),
        stage["file"],
        stage["bytes"],
        stage["sha256"],
        before,
        tuple(stage["inputs"]),
        stage["logits"],
        after,
    )
