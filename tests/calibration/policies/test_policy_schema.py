"""What stands in a policy file is looked at, entry by entry, though the checksum fits: other programs can write it."""

import json
import random
import re
from collections.abc import Iterator
from copy import deepcopy
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranet.calibration import load_policy
from tests.calibration.policy_files import Content, full_policy, refusal, signed

Where = tuple[str | int, ...]
DROP = object()


@pytest.fixture(scope="module")
def original(scores, costs, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("original") / "policy.json"
    full_policy(scores, costs).save(path)
    return path.read_bytes()


@pytest.fixture
def content(original) -> Content:
    return json.loads(original)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.json"


def places(value: Any, where: Where = ()) -> Iterator[Where]:
    """Every place in a JSON value but the whole."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*where, key)
        yield from places(item, (*where, key))


def changed(content: Content, where: Where, value: Any) -> Content:
    """The content with another value, or none, at one place, and the checksum that belongs to it."""
    content = deepcopy(content)
    inner: Any = content
    for key in where[:-1]:
        inner = inner[key]
    if value is DROP:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    return signed(content)


WRONG: dict[Where, list[Any]] = {
    ("format",): [DROP, None, "ranet policy", 2, [], {}],
    ("version",): [DROP, None, "2", 2.0, True, 1, 0, -2, 3, 10**12, [2]],
    ("score",): [DROP, None, "Confidence", "", 1, ["confidence"], {}],
    ("thresholds",): [DROP, None, 0.5, "never", {}, {"0": 0.5}, [], [0.5], [0.5, 0.5], [0.5] * 4, [[0.5] * 3]],
    ("thresholds", 1): [DROP, None, "0.5", "Never", "", True, False, [0.5], {}, 1e300, -1e39, 10**40],
    ("temperatures",): [DROP, 1.0, "1", {}, [], [1.0] * 3, [1.0] * 5, True],
    ("temperatures", 2): [DROP, None, 0, 0.0, -1.0, "1", True, [1.0]],
    ("metadata",): [DROP, None, [], "macs", 3],
    ("metadata", "policy"): [None, 1, ["geometric"], {}],
    ("metadata", "ratio"): [0, -0.5, "0.5", True, [0.5]],
    ("metadata", "unit"): [None, 3, ["macs"], True],
    ("metadata", "budget"): [0, -3e6, "3e6", True, [3e6], {}],
    ("metadata", "cost_per_exit"): [None, 4.0, {}, [], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0, 5.0], "1234"],
    ("metadata", "cost_per_exit", 1): [DROP, None, "2.5e6", -1.0, 1.0e6, 4.0e6, 9e9, True],
    ("metadata", "cost_per_exit", 0): [-1.0, None, 2.5e6, False],
    ("metadata", "predicted"): [None, [], 3, {}, "much"],
    ("metadata", "predicted", "images"): [DROP, None, 0, -400, 400.0, "400", True, [400]],
    ("metadata", "predicted", "cost"): [DROP, None, "3e6", 0.9e6, 9.1e6, -3e6, True, [3e6]],
    ("metadata", "predicted", "cost_interval"): [DROP, None, [], [3e6], [3e6, 2e6], [1e6, 2e6, 3e6], 3e6, {}],
    ("metadata", "predicted", "cost_interval", 0): [None, "2e6", -1.0, 1e12, True],
    ("metadata", "predicted", "accuracy"): [DROP, None, 1.01, -0.1, 93, "0.9", True],
    ("metadata", "predicted", "accuracy_interval"): [DROP, None, [], [0.9, 0.8], [0.5, 1.5], [-0.1, 0.5], 0.9],
    ("metadata", "predicted", "accuracy_interval", 1): [DROP, None, 1.01, "1", -1],
    ("metadata", "predicted", "level"): [DROP, None, 0, 1, 95, -0.95, "0.95", True],
    ("metadata", "predicted", "exit_shares"): [DROP, None, [], [1.0], [0.25] * 5, [0.25] * 3, [0.3] * 4, {}],
    ("metadata", "predicted", "exit_shares", 3): [DROP, None, -0.5, 1.5, "0.25", True, [0.25]],
    ("metadata", "network"): [None, "msdnet_tiny", [], 3],
    ("metadata", "network", "fingerprint"): [None, 123, ["0123"], {}, True],
    ("metadata", "data"): [None, "cifar10", []],
    ("metadata", "guarantee"): [None, 0.01, []],
    ("metadata", "chosen"): [None, 2, ["exit 2 alone"]],
    ("metadata", "instead_of"): [None, 0.7, []],
    ("metadata", "used_exits"): [None, [], 3, "13", {}, [0, 4], [-1, 3], [1, 1, 3], [3, 1], [0.0, 3], [True, 3]],
    ("software",): [DROP, None, "0.1.0", [], 3],
    ("software", "torch"): [None, 2.11, ["2.11"]],
    ("colour",): ["red", None],
    ("checksums",): [[]],
}
RIGHT: dict[Where, list[Any]] = {
    ("score",): ["margin", "entropy", "patience"],
    ("thresholds", 1): ["never", "always", 0, -2.5, 1e38, 5e-324],
    ("temperatures",): [None, [1, 1, 1, 1]],
    ("temperatures", 2): [1e-9, 1e300],
    ("metadata",): [{}, {"anything": [None, {"else": "too"}]}],
    ("metadata", "policy"): [DROP, "my own"],
    ("metadata", "ratio"): [DROP, None],
    ("metadata", "unit"): [DROP, "", "joules"],
    ("metadata", "budget"): [DROP, None, 1, 1e300],
    ("metadata", "cost_per_exit"): [DROP],
    ("metadata", "cost_per_exit", 0): [0, 0.0],
    ("metadata", "predicted"): [DROP],
    ("metadata", "predicted", "images"): [1],
    ("metadata", "predicted", "more"): [{"top5": 0.9}],
    ("metadata", "network"): [DROP, {}],
    ("metadata", "network", "fingerprint"): [DROP, "another"],
    ("metadata", "chosen"): ["exit 2 alone"],
    ("metadata", "used_exits"): [DROP, [0, 1, 2, 3], [3], [0], [1, 3]],
    ("metadata", "new"): [None, [], "what a later ranet adds"],
    ("software",): [{}, {"another program": "1.0"}],
}


def cases(table: dict[Where, list[Any]]) -> list[Any]:
    name = {id(DROP): "dropped"}
    return [
        pytest.param(where, value, id=f"{'.'.join(map(str, where))}={name.get(id(value), value)!s:.30}")
        for where, values in table.items()
        for value in values
    ]


def test_there_are_enough_mutations():
    assert len(cases(WRONG)) >= 200


@pytest.mark.parametrize(("where", "value"), cases(WRONG))
def test_a_wrong_entry_is_refused_by_its_name_though_the_checksum_fits(where: Where, value: Any, content, file):
    file.write_text(json.dumps(changed(content, where, value)))
    sentence = refusal(file)
    assert sentence
    names = [key for key in where if isinstance(key, str)]
    if where[0] in ("format", "version"):
        assert where[0] in sentence or "newer ranet" in sentence
    elif where[:1] == ("thresholds",) and "temperatures must have an entry for each" in sentence:
        pass  # one threshold more or less is a fault only beside the temperatures
    else:
        assert (names[0] if where[0] == "software" else ".".join(names)) in sentence


@pytest.mark.parametrize(("where", "value"), cases(RIGHT))
def test_a_right_entry_is_taken_as_it_stands(where: Where, value: Any, content, file):
    content = changed(content, where, value)
    file.write_text(json.dumps(content))
    words = {"never": inf, "always": -inf}
    loaded = load_policy(file)
    assert loaded.thresholds == tuple(np.float32(words.get(t, t)).item() for t in content["thresholds"])
    assert loaded.score == content["score"]
    assert loaded.temperatures == (None if content["temperatures"] is None else tuple(content["temperatures"]))
    assert loaded.metadata == content["metadata"]


def test_a_promise_without_labels_is_whole(content, file):
    content["metadata"]["predicted"] |= {"accuracy": None, "accuracy_interval": None}
    file.write_text(json.dumps(signed(content)))
    assert load_policy(file).metadata["predicted"]["accuracy"] is None


ANYTHING = [None, "text", "", [], {}, True, -1, 0, 1e308, [None], {"a": 1}, "\ud800", "never", 0.5]


def test_no_value_anywhere_is_taken_for_another(content, file):
    """At every place, anything: it is refused, or the policy says exactly what the file says."""
    rng = random.Random(0)
    everywhere = [where for where in places(content) if where != ("checksum",)]
    refused = taken = 0
    for where in everywhere:
        for value in [DROP, *rng.sample(ANYTHING, 4)]:
            mutated = changed(content, where, value)
            file.write_text(json.dumps(mutated))
            if refusal(file):
                refused += 1
                continue
            taken += 1
            loaded = load_policy(file)
            assert loaded.metadata == mutated["metadata"]
            assert loaded.score == mutated["score"]
            assert len(loaded.thresholds) == len(mutated["thresholds"])
    assert refused >= 200
    assert taken >= 200


def test_a_renamed_entry_is_missing_where_it_is_needed(content, file):
    needed = [(name,) for name in content if name != "checksum"]
    needed += [("metadata", "predicted", name) for name in content["metadata"]["predicted"]]
    for *outer, name in needed:
        renamed = deepcopy(content)
        inner = renamed
        for key in outer:
            inner = inner[key]
        inner[f"{name}s"] = inner.pop(name)
        file.write_text(json.dumps(signed(renamed)))
        assert re.search(rf'{name} is missing|"{name}"', refusal(file)), name


def test_a_file_of_one_threshold_less_is_refused_by_what_else_counts_exits(content, file):
    content |= {"thresholds": [0.5, 0.5], "temperatures": None}
    for alone in ("cost_per_exit", "predicted"):
        metadata = {alone: content["metadata"][alone]}
        file.write_text(json.dumps(signed({**content, "metadata": metadata})))
        assert "each of the 3 exits" in refusal(file)
