"""The base of all records, on a record of its own: nothing is converted, and each refusal names the entry."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ranet.errors import UserError
from ranet.support.records import LEFT_OUT, Count, Part, Record, Row, Text


class Shelf(Part):
    height: float
    books: Row[Text]


class Cupboard(Record):
    FORMAT: ClassVar[str] = "ranet cupboard"
    VERSION: ClassVar[int] = 3
    NAME: ClassVar[str] = "cupboard"
    WRITER: ClassVar[str] = "the joiner"
    AGAIN: ClassVar[str] = "build it again"

    doors: Count
    locked: bool
    shelves: Row[Shelf]
    owner: Text = LEFT_OUT


class EditedCupboard(Cupboard):
    IF_EDITED: ClassVar[str] = "it is used as it is"


GOOD: dict[str, Any] = {"doors": 2, "locked": False, "shelves": [{"height": 0.5, "books": ["größer", "\udce4"]}]}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    Cupboard.write(tmp_path / "a.json", GOOD)
    read = Cupboard.read(tmp_path / "a.json")
    assert (read.doors, read.locked, read.shelves[0].books) == (2, False, ("größer", "\udce4"))
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["format", "version", *GOOD, "checksum"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"doors": "2"}, 'doors must be an integer, not "2"'),
        ({"doors": True}, "doors must be an integer, not true"),
        ({"doors": 2.0}, "doors must be an integer, not 2.0"),
        ({"doors": 0}, "doors must be greater than or equal to 1, not 0"),
        ({"locked": 0}, "locked must be true or false, not 0"),
        ({"owner": None}, "owner must be a string, not null"),
        ({"shelves": {}}, "shelves must be a list, not {}"),
        ({"shelves": [[]]}, "shelves[0] must be an object, not []"),
        ({"shelves": [{"height": True, "books": []}]}, "shelves[0].height must be a number, not true"),
        ({"shelves": [{"height": 1}]}, "shelves[0].books is missing"),
        ({"shelves": [{"height": float("nan"), "books": []}]}, "shelves[0].height must be a number, not null"),
        ({"colour": "red"}, "colour is an entry that ranet does not know"),
        ({"two\nlines": 1}, r'"two\nlines" is an entry that ranet does not know'),
    ],
)
def test_what_is_wrong_is_named_and_never_written(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(UserError) as refused:
        Cupboard.write(path, {**GOOD, **change})
    assert str(refused.value) == (
        f"The cupboard {str(path)!r} cannot be written, because it could not be read again: {message}."
    )
    assert not list(tmp_path.iterdir())


def test_an_edited_record_is_refused_unless_it_may_be_edited(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.json"
    Cupboard.write(path, GOOD)
    path.write_text(path.read_text().replace('"doors": 2', '"doors": 7'))
    with pytest.raises(UserError, match=r"was changed after ranet wrote it \(its checksum does not fit\): build it ag"):
        Cupboard.read(path)
    assert not caplog.records
    assert EditedCupboard.read(path).doors == 7
    assert [record.getMessage() for record in caplog.records] == [
        f"The cupboard {str(path)!r} was changed after ranet wrote it (its checksum does not fit): it is used as it is."
    ]
