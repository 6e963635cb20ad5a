"""Latency profiles: what follows from the timings, and files that must not be believed."""

import copy
import json
from collections.abc import Callable, Iterator
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranet import LatencyProfile, UserError, create_network, measure_latency
from ranet.inference import Timings

PROFILE = LatencyProfile(
    network="0123456789abcdef",
    backend="torch",
    runtime_version="2.11.0",
    precision="float32",
    batch_size=4,
    image_size=32,
    device="cpu",
    hardware="A processor (µ)",
    threads=2,
    platform="Linux",
    stages=(
        (Timings(1.5, 0.25, 2.5, 20), Timings(2.0, 0.5, 2.25, 10), Timings(3.0, 0.5, 4.0, 10)),
        (Timings(0.3, 0.0, 0.3, 1), Timings(1.2, 0.25, 1.5, 10)),
        (Timings(1.0, 0.25, 1.5, 10),),
    ),
)


def with_timing(first: int, last: int, timings: Timings) -> LatencyProfile:
    """The profile with other timings of one fused stage."""
    rows = [list(row) for row in PROFILE.stages]
    rows[first][last - first] = timings
    return PROFILE.model_copy(update={"stages": tuple(map(tuple, rows))})


def test_currencies_by_hand() -> None:
    assert PROFILE.num_exits == 3
    expected = np.array([[1.5, 2.0, 3.0], [nan, 0.3, 1.2], [nan, nan, 1.0]]) / 4
    np.testing.assert_array_equal(PROFILE.table_ms, expected)
    costs = PROFILE.costs
    np.testing.assert_array_equal(costs.stages, expected)
    assert costs.cumulative([0, 2]).tolist() == pytest.approx([1.5 / 4, 1.8 / 4, 2.7 / 4])
    # An exit that was measured as no slower than the one before it is a little slower.
    first, second, third = PROFILE.batch_ms_alone_p95
    assert (first, third) == (2.5, 4.0)
    assert first < second == np.nextafter(2.5, 3)


def test_steady_is_what_spreads_little() -> None:
    """One stage has run once, the others spread by a quarter of their median at most."""
    assert PROFILE.steady
    assert not with_timing(1, 2, Timings(1.2, 0.6, 1.5, 10)).steady


def test_a_saved_profile_is_the_same_when_loaded(tmp_path: Path) -> None:
    measured = measure_latency(create_network("msdnet_tiny", blocks=3), backend="torch", min_run_time=0.001)
    for profile in (PROFILE, PROFILE.model_copy(update={"threads": None}), measured):
        profile.save(tmp_path / "deep" / "latency.json")
        assert LatencyProfile.load(tmp_path / "deep" / "latency.json") == profile
    written = json.loads((tmp_path / "deep" / "latency.json").read_text())
    assert written["ms_per_image"][1] == measured.table_ms[1, 1:].tolist()
    assert written["batch_ms_alone_p95"] == measured.batch_ms_alone_p95
    assert written["unit"] == "ms"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["latency.json"]


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a JSON document, the document's own first."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed(content: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of the document in which the value at a path, in its container, was changed."""
    document = copy.deepcopy([content])
    container: Any = document
    for key in (0, *path)[:-1]:
        container = container[key]
    change(container, (0, *path)[-1])
    return document[0] if document else None


def loaded_or_said(path: Path) -> tuple[LatencyProfile | None, str]:
    try:
        return LatencyProfile.load(path), ""
    except UserError as error:
        return None, str(error)


VALUES = [None, True, "", "1", -1, 0, 10**400, -0.5, 1e999, nan, [], {}, [1.0], {"median": 1.0}]


def test_no_mutated_file_is_believed(tmp_path: Path) -> None:
    """Each value is taken away or replaced by each of a list; only another text for a text can be believed."""
    good = PROFILE.to_dict()
    path, refused = tmp_path / "latency.json", 0

    def put(value: Any) -> Callable[[Any, Any], None]:
        return lambda container, key: container.__setitem__(key, value)

    mutations = [lambda container, key: container.__delitem__(key), *map(put, VALUES)]
    for at in places(good):
        for mutate in mutations:
            content = changed(json.loads(json.dumps(good)), at, mutate)
            path.write_text(json.dumps(content))
            loaded, said = loaded_or_said(path)
            if loaded is None:
                assert len(said.splitlines()) == 1
                assert str(path) in said
                refused += 1
                continue
            key = at[-1]
            # Another string or another spread contradicts no other entry of the file. Neither do the threads, or the
            # 95th percentiles of stages that start behind the first exit, which deadlines do not need.
            inside = len(at) > 2 and at[0] == "stages" and at[1] > 0 and key == "p95"
            assert key in ("iqr", "threads") or inside or isinstance(good[key], str) or content == good, (at, content)
            assert loaded.to_dict() == content
    assert refused > 500


def test_cut_files_are_refused(tmp_path: Path) -> None:
    text = json.dumps(PROFILE.to_dict())
    path = tmp_path / "latency.json"
    for length in range(len(text)):
        path.write_text(text[:length])
        with pytest.raises(UserError, match="is not valid JSON"):
            LatencyProfile.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "ranet exit policy"}, "is not a ranet latency profile"),
        ({"version": 1}, "has version 1 and this ranet reads 2"),
        ({"version": 3}, r"was written by a newer ranet \(version 3; this one reads 2\)"),
        ({"version": True}, 'an integer as "version"'),
        ({"unit": "s"}, '"unit"'),
        ({"batch_size": 8}, '"ms_per_image"'),
        ({"backend": "tensorflow"}, 'backend must be one of torch, onnxruntime, openvino, not "tensorflow"'),
        ({"precision": "int8"}, "precision must be 'float32' or 'bfloat16', not \"int8\""),
        ({"threads": 0}, "threads must be greater than or equal to 1, not 0"),
        ({"num_exits": 4}, '"num_exits"'),
        ({"stages": []}, "stages must have at least 1 item, not 0"),
        ({"note": None}, '"note"'),
        ({"hardware": 3}, "hardware must be a string, not 3"),
        ({"batch_size": 4.0}, "batch_size must be an integer, not 4.0"),
        ({"stages": PROFILE.to_dict()["stages"][1:]}, '"num_exits"'),
        ({"stages": PROFILE.to_dict()["stages"][:2]}, "each list shorter by one"),
        (
            {"stages": [[{"median": 2.0, "iqr": 0.0, "p95": 1.0, "runs": 1}]]},
            r"stages\[0\]\[0\] must have a median of at most the p95",
        ),
        (
            {"stages": [[{"median": 1.0, "iqr": 0.0, "p95": 1.0, "runs": 0}]]},
            r"stages\[0\]\[0\].runs must be greater than or equal to 1, not 0",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "latency.json").write_text(json.dumps({**PROFILE.to_dict(), **change}))
    with pytest.raises(UserError, match=message):
        LatencyProfile.load(tmp_path / "latency.json")


def test_figures_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    for change, name in (
        (with_timing(1, 2, Timings(1.0, 0.25, 1.5, 10)), "ms_per_image"),
        (with_timing(0, 2, Timings(3.0, 0.5, 5.0, 10)), "batch_ms_alone_p95"),
    ):
        (tmp_path / "latency.json").write_text(json.dumps({**PROFILE.to_dict(), "stages": change.to_dict()["stages"]}))
        with pytest.raises(UserError, match=f'"{name}" does not follow'):
            LatencyProfile.load(tmp_path / "latency.json")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        LatencyProfile.load(tmp_path / "latency.json")
    with pytest.raises(UserError, match="is a folder"):
        LatencyProfile.load(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not a text file"):
        LatencyProfile.load(tmp_path / "binary.json")
    (tmp_path / "deep.json").write_text("[" * 10**5)
    with pytest.raises(UserError, match="not valid JSON"):
        LatencyProfile.load(tmp_path / "deep.json")
