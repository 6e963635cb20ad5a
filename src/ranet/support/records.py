"""Records: JSON files that say what they are, in which version, and whether anybody changed them (pydantic models)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, InstanceOf, Strict, ValidationError

from ranet.errors import UserError
from ranet.support.files import written_whole
from ranet.support.strict_json import canonical_json, parse_strict_json, plain, shown, strict_json


def _hexadecimal(digest: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("must be 64 hexadecimal digits")
    return digest


T = TypeVar("T")
Row = Annotated[tuple[T, ...], Strict(False)]
"""A JSON list of any length; what is in it stays strict."""
Count = Annotated[int, Field(ge=1, lt=2**63)]
Name = Annotated[str, Field(min_length=1)]
Text = InstanceOf[str]
"""Any string, also one that holds a file name which is not UTF-8."""
Sha256 = Annotated[str, AfterValidator(_hexadecimal)]
LEFT_OUT: Any = None
"""The default of an entry that may be missing, and that must not be null where it is there."""

_ALLOWED = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "is_instance_of": "a string",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}
log = logging.getLogger(__name__)


class Part(BaseModel):
    """A JSON object with these entries and no others. Nothing is converted: "1" and true are not 1."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def like(part: type[Part]) -> AfterValidator:
    """Return what checks that a dictionary is such a part, and leaves it as it is."""

    def check(value: Any) -> Any:
        part.model_validate(value)
        return value

    return AfterValidator(check)


class _Seal(Part):
    checksum: Sha256


class Record(Part):
    """A JSON file with "format" and "version", the entries of the model, and (SEALED) the `checksum` of all of these.

    Attributes:
        FORMAT, VERSION: what "format" and "version" must be.
        NAME: of such a file in a sentence, such as "policy file".
        WRITER: what writes such files.
        AGAIN: what to do about a file that cannot be used.
        SEALED: whether it has a checksum.
        IF_EDITED: the end of the notice about a file that was edited and is read; "": such a file is refused.
    """

    FORMAT: ClassVar[str]
    VERSION: ClassVar[int]
    NAME: ClassVar[str]
    WRITER: ClassVar[str]
    AGAIN: ClassVar[str]
    SEALED: ClassVar[bool] = True
    IF_EDITED: ClassVar[str] = ""

    @classmethod
    def write(cls, path: str | Path, entries: Mapping[str, Any]) -> None:
        """Write a record, whole or not at all, with these entries of the model, in JSON's types or NumPy's.

        Raises:
            UserError: for entries that `read` would refuse; nothing is written then.
        """
        try:
            content = plain({"format": cls.FORMAT, "version": cls.VERSION, **entries})
            if cls.SEALED:
                content["checksum"] = checksum(content)
            text = strict_json(content)
            cls._checked(parse_strict_json(text))
        except (TypeError, ValueError, RecursionError) as error:
            why = f"cannot be written, because it could not be read again: {_said(error)}"
            raise UserError(f"{cls._the(path)} {why}.") from error
        with written_whole(path) as partial:
            partial.write_bytes(text.encode())

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Return what a file says, which `write` wrote.

        Raises:
            UserError: if it is missing, no JSON, of another format or version, has a checksum that does not fit (unless
                it may be edited), or an entry that is missing, unknown or wrong.
        """
        where, content = cls._the(path), cls.content(path)
        version = content.get("version")
        if not isinstance(version, int) or isinstance(version, bool):
            raise UserError(f'{where} must have an integer as "version", not {shown(version)}: {cls.AGAIN}.')
        if version > cls.VERSION:
            newer = f"was written by a newer ranet (version {shown(version)}; this one reads {cls.VERSION})"
            raise UserError(f"{where} {newer}: update ranet.")
        if version < cls.VERSION:
            raise UserError(f"{where} has version {shown(version)} and this ranet reads {cls.VERSION}: {cls.AGAIN}.")
        if not cls.IF_EDITED:
            cls.require_seal(path, content)
        try:
            record = cls._checked(content)
        except ValueError as error:
            raise UserError(f"{where} cannot be used ({_said(error)}): {cls.AGAIN}.") from error
        if cls.IF_EDITED and not _fits(content):
            log.warning("%s was changed after ranet wrote it (its checksum does not fit): %s.", where, cls.IF_EDITED)
            return record.edited()
        return record

    def edited(self) -> Self:
        """Return what is left of the record if its file was edited and is read (`IF_EDITED`)."""
        return self

    @classmethod
    def content(cls, path: str | Path) -> dict[str, Any]:
        """Return the entries of a file of this format, in any version and unchecked; raises as `read`."""
        where = cls._the(path)
        try:
            text = Path(path).read_bytes().decode("utf-8")
        except FileNotFoundError as error:
            raise UserError(f"{where} does not exist; {cls.WRITER} writes one.") from error
        except IsADirectoryError as error:
            raise UserError(f"{where} is a folder; name one of the files in it.") from error
        except OSError as error:
            raise UserError(f"{where} cannot be read: {error.strerror or error}.") from error
        except ValueError as error:
            raise UserError(f"{where} is not a text file: {cls.AGAIN}.") from error
        try:
            content = parse_strict_json(text)
        except ValueError as error:
            raise UserError(f"{where} is not valid JSON ({error}), perhaps it was cut off: {cls.AGAIN}.") from error
        if not isinstance(content, dict) or content.get("format") != cls.FORMAT:
            raise UserError(f'{where} is not a {cls.FORMAT}: it must be an object with "format": "{cls.FORMAT}".')
        return content

    @classmethod
    def require_seal(cls, path: str | Path, content: Mapping[str, Any]) -> None:
        """Raise a UserError if the content of a file was changed after it was written."""
        if cls.SEALED and not _fits(content):
            found = "its checksum does not fit" if "checksum" in content else "it has no checksum"
            raise UserError(f"{cls._the(path)} was changed after ranet wrote it ({found}): {cls.AGAIN}.")

    @classmethod
    def _the(cls, path: str | Path) -> str:
        return f"The {cls.NAME} {str(path)!r}"

    @classmethod
    def _checked(cls, content: Mapping[str, Any]) -> Self:
        """Return the record of a file's content; raise a ValueError for a wrong entry."""
        around = ("format", "version", "checksum") if cls.SEALED else ("format", "version")
        record = cls._of({name: value for name, value in content.items() if name not in around})
        if cls.SEALED:
            _Seal.model_validate({name: content[name] for name in ("checksum",) if name in content})
        return record

    @classmethod
    def _of(cls, entries: Mapping[str, Any]) -> Self:
        """Return the record with these entries; raise a ValueError for a wrong entry."""
        return cls.model_validate(entries)


def checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hexadecimal digits, of the canonical JSON of a record without its "checksum".

    Example:
        >>> checksum({"version": 2, "format": "ranet exit policy"})[:16]
        '3e2b56ff891b4b2d'
    """
    return sha256(canonical_json(content).encode()).hexdigest()


def _fits(content: Mapping[str, Any]) -> bool:
    return content.get("checksum") == checksum({name: content[name] for name in content if name != "checksum"})


def _said(error: Exception) -> str:
    """Return what is wrong, as the middle of a sentence: the entry, what is allowed, and what was given.

    Validators of ours raise a ValueError whose message follows the name of the entry, if it is about one.
    """
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    kind, given = first["type"], first["input"]
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{_key(key)}" for key in first["loc"]).lstrip(".")
    if kind == "missing":
        return f"{where} is missing"
    if kind == "extra_forbidden":
        return f"{where} is an entry that ranet does not know"
    if kind == "value_error":
        said = str(first["ctx"]["error"])
        if isinstance(first["ctx"]["error"], UserError):
            return said.rstrip(".")
    elif kind in _ALLOWED:
        said = f"must be {_ALLOWED[kind]}"
    else:
        said = re.sub(r"^\w+ should", "must", first["msg"].replace(" after validation", ""))
    is_said = ", not " in said or (kind == "value_error" and isinstance(given, dict))
    return f"{where} {said}".lstrip() + ("" if is_said else f", not {shown(given)}")


def _key(key: str) -> str:
    return key if key.isidentifier() else shown(key)
