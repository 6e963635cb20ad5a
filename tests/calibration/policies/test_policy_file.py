"""Policy files that were changed or made up: each is refused in one sentence, or read as it is with a notice."""

import json
import logging
import random
import re
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranet.calibration import ExitPolicy, load_policy
from ranet.calibration.policies.schema import HOLDS_AFTER_EDITS
from ranet.errors import UserError
from tests.calibration.policy_files import Content, full_policy, refusal, signed


@pytest.fixture(scope="module")
def policy(scores, costs) -> ExitPolicy:
    return full_policy(scores, costs)


@pytest.fixture(scope="module")
def original(policy, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("original") / "policy.json"
    policy.save(path)
    return path.read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.json"


def strict(text: bytes) -> Any:
    """Read the text as any strict JSON reader does; None if it is not JSON."""

    def once(pairs: list[tuple[str, Any]]) -> Content:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, AssertionError, RecursionError):
        return None


def test_the_file_is_what_the_documentation_says(policy, original):
    content = json.loads(original)
    assert [content["format"], content["version"]] == ["ranet exit policy", 2]
    assert content == signed(content)
    assert content["thresholds"] == ["never", policy.thresholds[1], "always"]
    assert content["temperatures"] == [1.0, 1.25, 0.75, 2.0]
    assert content["metadata"] == policy.metadata
    assert set(content["software"]) == {"ranet", "torch", "numpy", "python"}
    assert content["software"]["numpy"] == np.__version__
    assert "größer" in original.decode("utf-8"), "legible"


def same(one: Any, other: Any) -> bool:
    """Whether two contents are equal apart from the order of keys."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def byte_flips(text: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(text))
    return text[:place] + bytes([text[place] ^ (1 << rng.randrange(8))]) + text[place + 1 :]


def deletions(text: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(text))
    return text[:start] + text[start + rng.choice([1, 1, 2, 5, 40, 400]) :]


def insertions(text: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(text) + 1)
    piece = rng.choice(
        [b"0", b"9", b"-", b",", b"]", b"}", b'"', b" x", b"null", b"\x00", b"\xff", b"1e999", b"[" * 5000]
    )
    return text[:place] + piece + text[place:]


def truncations(text: bytes, rng: random.Random) -> bytes:
    return text[: rng.randrange(len(text) - 1)]


def swapped_digits(text: bytes, rng: random.Random) -> bytes:
    digits = [match.start() for match in re.finditer(rb"\d", text)]
    place = rng.choice(digits)
    digit = rng.choice(b"0123456789".replace(text[place : place + 1], b""))
    return text[:place] + bytes([digit]) + text[place + 1 :]


def doubled_lines(text: bytes, rng: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    return b"".join([*lines[: place + 1], *lines[place:]])


def swapped_lines(text: bytes, rng: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    one, other = rng.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def white_space(text: bytes, rng: random.Random) -> bytes:
    return rng.choice([b" \n", b"\t", b"\r\n", b""]).join(text.splitlines())


@pytest.mark.parametrize(
    ("mutate", "times"),
    [
        (byte_flips, 150),
        (deletions, 80),
        (insertions, 80),
        (truncations, 80),
        (swapped_digits, 120),
        (doubled_lines, 40),
        (swapped_lines, 40),
        (white_space, 10),
    ],
)
def test_a_damaged_file_is_refused_or_read_as_it_is_with_a_notice(
    mutate: Callable[[bytes, random.Random], bytes], times: int, policy, original, file, caplog
):
    rng = random.Random(mutate.__name__)
    refused, noticed, value = 0, 0, strict(original)
    for _ in range(times):
        damaged = mutate(original, rng)
        file.write_bytes(damaged)
        caplog.clear()
        if same(strict(damaged), value):
            assert load_policy(file) == policy
            assert not caplog.records
        elif refusal(file):
            refused += 1
        else:
            assert notice(caplog, file), f"accepted: {damaged!r}"
            assert says_what_still_holds(load_policy(file), strict(damaged))
            noticed += 1
    assert refused + noticed == 0 if mutate is white_space else refused + noticed >= 0.6 * times
    assert (refused > 0) == (mutate is not white_space)
    assert noticed == 0 or mutate is not truncations


def notice(caplog: pytest.LogCaptureFixture, file: Path) -> bool:
    """Whether one thing was said, and it is that this file was changed."""
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return len(said) == 1 and f"{str(file)!r} was changed after ranet wrote it (its checksum does not fit)" in said[0]


def says_what_still_holds(policy: ExitPolicy, content: Content) -> bool:
    """Whether it is the policy of the file, without what its calibration predicted."""
    words = {"never": inf, "always": -inf}
    thresholds = [np.float32(words.get(each, each)).item() for each in content["thresholds"]]
    stored = [list(policy.thresholds), policy.score, list(policy.temperatures or ()), policy.metadata]
    holds = {name: value for name, value in content["metadata"].items() if name in HOLDS_AFTER_EDITS}
    return same(stored, [thresholds, content["score"], list(content["temperatures"] or ()), holds])


def test_thresholds_that_were_edited_are_followed_with_a_notice(policy, original, file, caplog):
    content = json.loads(original)
    content["thresholds"] = [0.75, "never", 0.5]
    file.write_text(json.dumps(content))
    edited = load_policy(file)
    assert edited.thresholds == (0.75, inf, 0.5)
    assert (edited.score, edited.temperatures) == (policy.score, policy.temperatures)
    assert set(edited.metadata) == {"unit", "cost_per_exit", "network", "data"}, "the promise was of other thresholds"
    assert edited.metadata.items() <= policy.metadata.items()
    assert notice(caplog, file)
    # What is written is what was read, so it fits again.
    caplog.clear()
    edited.save(file)
    assert load_policy(file) == edited
    assert not caplog.records


def test_an_edited_file_with_something_wrong_is_refused(original, file, caplog):
    for name, value in (("thresholds", [2, "sometimes", 0]), ("temperatures", [1.0]), ("notes", "mine")):
        file.write_text(json.dumps({**json.loads(original), name: value}))
        assert f"({name}" in refusal(file)
        assert not caplog.records


def test_every_truncation_at_a_line_is_refused_as_cut_off(original, file):
    lines = original.splitlines(keepends=True)
    for kept in range(len(lines)):
        file.write_bytes(b"".join(lines[:kept]))
        assert "is not valid JSON" in refusal(file)
        assert "cut off" in refusal(file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"score": "confidence"', '"score": "confidence", "score": "margin"', 'key "score" occurs twice'),
        ('"unit": "macs"', '"unit": "macs", "unit": "macs"', 'key "unit" occurs twice'),
        ('"budget": 3000000.0', '"budget": NaN', "NaN is not a JSON number"),
        ('"budget": 3000000.0', '"budget": -Infinity', "-Infinity is not a JSON number"),
        ('"budget": 3000000.0', '"budget": 1e999', "1e999 is too large a number"),
        ('"budget": 3000000.0', '"budget": ' + "7" * 5000, r"777777777777\.\.\. is too large a number"),
        ('"budget": 3000000.0', '"budget": ' + "[" * 200 + "]" * 200, "nested deeper than 64"),
        ('"budget": 3000000.0', '"budget": ' + "[" * 100_000 + "]" * 100_000, "nested deeper than 64"),
        ('"budget": 3000000.0', '"budget": ' + '{"a":' * 100_000, "nested deeper than 64"),
        ('"budget": 3000000.0', '"budget": 03', "expecting ',' delimiter at line"),
        ('"budget": 3000000.0', '"budget": "a\tb"', "invalid control character at line"),
        ('"budget": 3000000.0', "'budget': 3e6", "expecting property name enclosed in double quotes at line"),
        ('"version": 2', '"version": 3', r"was written by a newer ranet \(version 3; this one reads 2\): update ranet"),
        ('"version": 2', '"version": 1', "has version 1 and this ranet reads 2: solve it again"),
        ('"version": 2', '"version": "2"', 'must have an integer as "version", not "2"'),
        ('"ranet exit policy"', '"ranet costs"', "is not a ranet exit policy"),
        ('"checksum": "', '"checksum": "0', "checksum must be 64 hexadecimal digits"),
        ('"checksum"', '"check"', "check is an entry that ranet does not know"),
    ],
)
def test_each_kind_of_damage_has_its_own_sentence(old, new, message, original, file):
    text = original.decode()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    assert re.search(message, refusal(file)), refusal(file)


@pytest.mark.parametrize("text", ["", " ", "{", "nonsense", "null", "3", '"text"', "[]", "{}", "[0.5]", "{} {}"])
def test_what_was_never_a_policy_is_named(text, file):
    file.write_text(text)
    assert re.search("is not valid JSON|is not a ranet exit policy", refusal(file))


def test_what_cannot_be_read_is_named(tmp_path):
    assert "does not exist" in refusal(tmp_path / "policy.json")
    (tmp_path / "folder").mkdir()
    assert "is a folder; name one of the files in it" in refusal(tmp_path / "folder")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "is not a text file" in refusal(tmp_path / "binary")
    (tmp_path / "sixteen").write_text("{}", encoding="utf-16")
    assert "is not a text file" in refusal(tmp_path / "sixteen")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"budget": "much"}, 'metadata.budget must be a number, not "much"'),
        ({"predicted": {"cost": 3.0}}, "metadata.predicted.images is missing"),
        ({"network": "msdnet_tiny"}, "metadata.network must be an object"),
        ({"cost_per_exit": [1.0, nan]}, r"metadata.cost_per_exit\[1\] must be a number, not null"),
        ({"path": Path("policy.json")}, "PosixPath is not JSON serializable"),
        ({"seed": 10**400}, "is too large a number"),
        ({"seed": 10**5000}, "cannot be written"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(metadata, message, file):
    ExitPolicy((0.5,)).save(file)
    with pytest.raises(UserError, match=message):
        ExitPolicy((0.25,), metadata=metadata).save(file)
    assert load_policy(file) == ExitPolicy((0.5,))
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("fails", ["write_bytes", "replace"])
def test_a_failing_write_leaves_the_earlier_file(fails, policy, original, file, monkeypatch):
    file.write_bytes(original)

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, fails, fail)
    with pytest.raises(OSError, match="No space"):
        ExitPolicy((0.5,)).save(file)
    monkeypatch.undo()
    assert file.read_bytes() == original
    assert list(file.parent.iterdir()) == [file]
    assert load_policy(file) == policy


def test_names_that_are_not_unicode_survive(file):
    """A file name of bytes that are not UTF-8 is half a surrogate pair in Python."""
    policy = ExitPolicy((0.5,), metadata={"checkpoint": b"runs/\xe4/last.ckpt".decode("utf-8", "surrogateescape")})
    policy.save(file)
    assert load_policy(file) == policy
    assert file.read_bytes().decode("utf-8")


def test_a_policy_of_another_network_is_refused(policy, original, file):
    file.write_bytes(original)
    loaded = load_policy(file)
    loaded.require_network("0123456789abcdef")
    with pytest.raises(UserError, match=r"another network \(fingerprint 0123456789abcdef; .* has ffff\): calibrate"):
        loaded.require_network("ffff")


@pytest.mark.parametrize("metadata", [{}, {"network": {"name": "msdnet_tiny"}}, {"network": "msdnet_tiny"}])
def test_a_policy_that_names_no_network_fits_any(metadata):
    ExitPolicy((0.5,), metadata=metadata).require_network("0123456789abcdef")
