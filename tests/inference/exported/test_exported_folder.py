"""An exported folder, read: what it says, which of its stages a policy runs, and how a damaged one is refused."""

import copy
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations, pairwise
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranet.calibration import ExitPolicy
from ranet.errors import UserError
from ranet.images.preprocessing import Preprocessing
from ranet.inference.exported.folder import ExportedFolder
from ranet.inference.exported.manifest import MANIFEST, Manifest
from ranet.inference.runtimes.backend import NetworkFacts
from ranet.inference.stages.fused_stages import FusedStage, chain_through, fused_stages, reachable_cuts, used_exits
from ranet.support.shapes import TensorSpec
from ranet.support.strict_json import plain

EXITS = 5
FINGERPRINT = "0123456789abcdef"
POLICY = ExitPolicy((0.9, inf, 0.5, inf), metadata={"network": {"fingerprint": FINGERPRINT}})
STAGES = {FusedStage(0, 0): b"the first", FusedStage(1, 2): b"two stages", FusedStage(3, 4): b"the last two"}
PREPROCESSING = Preprocessing(32, 32, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)).to_dict()


def state(cut: int) -> tuple[TensorSpec, ...]:
    """The state behind an exit: the images behind -1, and nothing behind the last."""
    if cut == -1:
        return (TensorSpec("images", (3, 32, 32)),)
    return () if cut == EXITS - 1 else (TensorSpec("passes by", (8,)), TensorSpec(f"map_{cut}", (4, 16, 16)))


def stage_file(stage: FusedStage, content: bytes) -> dict[str, Any]:
    before = state(stage.first - 1)
    digest = hashlib.sha256(content).hexdigest()
    return {
        "first": stage.first,
        "last": stage.last,
        "file": f"graph_{stage.first}_{stage.last}.onnx",
        "bytes": len(content),
        "sha256": digest,
        "before": [tensor._asdict() for tensor in before],
        "inputs": [before[-1].name],
        "logits": f"logits_{stage.last}",
        "after": [tensor._asdict() for tensor in state(stage.last)],
    }


def write_export(folder: Path) -> dict[str, Any]:
    """A folder as an export leaves it, with graphs that cannot run; returns the entries of its manifest."""
    folder.mkdir()
    files = [stage_file(stage, content) for stage, content in STAGES.items()]
    for file, content in zip(files, STAGES.values(), strict=True):
        (folder / file["file"]).write_bytes(content)
    POLICY.save(folder / "policy.json")
    stages = [[sum(10 * k for k in range(a, b + 1)) + b if b >= a else 0 for b in range(1, 6)] for a in range(1, 6)]
    counts = {"stages": stages, "parts": []}
    manifest = {
        "network": {
            "num_exits": EXITS,
            "num_classes": 3,
            "image_size": 32,
            "heads_can_be_skipped": True,
            "fingerprint": FINGERPRINT,
            "in_channels": 3,
            "optional_parts": [],
        },
        "stages": files,
        "policies": ["policy.json"],
        "preprocessing": PREPROCESSING,
        "golden": {"picture": "golden.png", "arrays": "golden.npz"},
        "classes": ["größer", "kleiner", ""],
        "data": {"name": "imagefolder", "classes": ["größer", "kleiner", ""], "digests": {"train": "0" * 16}},
        "costs": dict.fromkeys(("macs", "paper_ops"), counts),
        "software": {"ranet": "0.1.0", "opset": "20"},
    }
    Manifest.write(folder / MANIFEST, manifest)
    return manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_export(tmp_path / "export")
    return tmp_path / "export"


def refusal(folder: Path) -> str:
    """The sentence with which a folder is refused when it is opened or a stage is asked for; "" if it is not."""
    try:
        export = ExportedFolder(folder)
        for stage in export.stages:
            export.graph(stage)
    except UserError as error:
        sentence = str(error)
    else:
        return ""
    inside = re.sub(r"'[^'\n]*'", "NAME", sentence)
    assert re.fullmatch(r"[A-Z][^\n]*[^.\n]\.", inside), sentence
    assert ". " not in inside.replace("...", ""), f"one sentence: {sentence}"
    assert len(inside) < 350
    assert not re.search(r"Traceback|Errno|<class|object at|0x[0-9a-f]{6}", sentence), sentence
    return sentence


def rewrite(folder: Path, content: dict[str, Any]) -> None:
    """Write the manifest with the checksum that belongs to it, computed as the documentation says."""
    body = {name: value for name, value in content.items() if name != "checksum"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    signed = {**body, "checksum": hashlib.sha256(canonical.encode()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(signed))


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a JSON value but the outermost."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


class TestReading:
    def test_all_entries_come_back(self, tmp_path: Path) -> None:
        entries = write_export(tmp_path / "export")
        assert plain(Manifest.read(tmp_path / "export" / MANIFEST).model_dump()) == plain(entries)
        export = ExportedFolder(tmp_path / "export")
        assert export.facts == NetworkFacts(EXITS, 3, 32, True, (0, 2, 4), FINGERPRINT)
        assert export.manifest.data == entries["data"]
        assert export.policies == [POLICY]
        assert export.policies[0].metadata == POLICY.metadata
        assert export.preprocessing == Preprocessing.from_dict(PREPROCESSING)
        assert export.classes == ("größer", "kleiner", "")
        assert export.stages == list(STAGES)
        for stage, content in STAGES.items():
            graph = export.graph(stage)
            assert isinstance(graph.model, Path)
            assert graph.model.read_bytes() == content
            assert (graph.before, graph.after) == (state(stage.first - 1), state(stage.last))
            assert (graph.inputs, graph.logits) == ((graph.before[-1].name,), f"logits_{stage.last}")

    def test_the_file_is_what_the_documentation_says(self, folder: Path) -> None:
        content = manifest_of(folder)
        assert [content["format"], content["version"]] == ["ranet exported engine", 3]
        assert "cuts" not in content["network"]
        assert content["stages"][1]["first"] == 1
        assert content["stages"][1]["sha256"] == hashlib.sha256(b"two stages").hexdigest()
        assert content["stages"][1]["before"] == [
            {"name": "passes by", "shape": [8]},
            {"name": "map_0", "shape": [4, 16, 16]},
        ]
        before = (folder / "manifest.json").read_bytes()
        assert "größer" in before.decode("utf-8"), "legible"
        rewrite(folder, content)
        assert manifest_of(folder) == json.loads(before), "the checksum is that of the documentation"
        assert refusal(folder) == ""

    def test_costs_are_cumulative_and_have_a_unit(self, folder: Path) -> None:
        export = ExportedFolder(folder)
        assert export.costs("paper_ops").cumulative().tolist() == [11, 33, 66, 110, 165]
        assert (export.costs().unit, len(export.costs().parts)) == ("macs", 0)
        with pytest.raises(UserError, match="Unknown unit 'joules'"):
            export.costs("joules")

    def test_it_is_found_where_a_killed_export_left_it(self, folder: Path) -> None:
        # As between the two renamings of `folder_written_whole`; no process has this number.
        folder.rename(folder.with_name(f".{folder.name}.{2**40}.earlier"))
        folder.with_name(f".{folder.name}.{2**40}.partial").mkdir()
        assert ExportedFolder(folder).policies == [POLICY]
        assert folder.is_dir()

    def test_it_needs_neither_torch_nor_onnx(self, folder: Path) -> None:
        code = (
            "import sys; sys.modules.update(dict.fromkeys(['torch', 'torchvision', 'onnx', 'matplotlib']));"
            "from ranet.inference.exported.folder import ExportedFolder; export = ExportedFolder(sys.argv[1]);"
            "print([export.graph(stage).logits for stage in export.stages])"
        )
        done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
        assert done.stdout == "['logits_0', 'logits_2', 'logits_4']\n", done.stderr

    def test_a_policy_may_be_replaced_by_one_that_the_stages_can_follow(self, folder: Path) -> None:
        other = ExitPolicy((inf, inf, 0.5, inf), "margin")
        (folder / "policy.json").unlink()
        other.save(folder / "policy.json")
        export = ExportedFolder(folder)
        assert export.policies == [other]
        # From the images to exit 3 leads only the way through exit 1, at which this policy does not look.
        assert export.stages_for(used_exits(other)) == list(STAGES)
        with pytest.raises(
            UserError, match="cannot answer at exit 2: its stages are 1, 2-3, 4-5, which end at exits 1, 3"
        ):
            export.stages_for([1])


class TestDamage:
    @pytest.mark.parametrize("stage", list(STAGES))
    def test_a_stage_file_that_is_missing_cut_off_changed_or_swapped(self, folder: Path, stage: FusedStage) -> None:
        path = folder / f"graph_{stage.first}_{stage.last}.onnx"
        content = path.read_bytes()
        path.unlink()
        assert re.fullmatch(f"The stage file {str(path)!r} of the export is missing: copy .*", refusal(folder))
        path.write_bytes(content[:-1])
        assert f"{str(path)!r} has {len(content) - 1} bytes and was exported with {len(content)}" in refusal(folder)
        path.write_bytes(content[:-1] + b"?")
        assert f"{str(path)!r} is not the one that was exported" in refusal(folder)
        # Of another export, under the same name.
        path.write_bytes(bytes(reversed(content)))
        assert f"{str(path)!r} is not the one that was exported" in refusal(folder)
        path.write_bytes(content)
        assert refusal(folder) == ""

    def test_what_is_no_export(self, folder: Path, tmp_path: Path) -> None:
        assert "no_folder' does not exist; ranet export writes one" in refusal(tmp_path / "no_folder")
        assert "graph_0_0.onnx' is a file" in refusal(folder / "graph_0_0.onnx")
        (tmp_path / "empty").mkdir()
        assert "it has no manifest.json" in refusal(tmp_path / "empty")
        for content, message in (
            (b"\xff", "is not a text file"),
            (b"{", "is not valid JSON"),
            (b"[]", "is not a ranet exported engine"),
            (b'{"format": "ranet exit policy"}', "is not a ranet exported engine"),
            (b'{"format": "ranet exported engine", "version": 4}', "was written by a newer ranet"),
            (b'{"format": "ranet exported engine", "version": 1}', "this ranet reads 3"),
            (b'{"format": "ranet exported engine", "version": true}', "an integer as"),
            (b'{"format": "ranet exported engine", "version": 3}', "it has no checksum"),
        ):
            (folder / "manifest.json").write_bytes(content)
            assert message in refusal(folder)

    def test_a_policy_that_does_not_belong_here(self, folder: Path) -> None:
        path = folder / "policy.json"
        for policy, message in (
            (ExitPolicy((0.5,) * 3), "is for 4 exits and the exported network has 5"),
            (ExitPolicy(POLICY.thresholds, metadata={"network": {"fingerprint": "f" * 16}}), "another network"),
            (ExitPolicy((0.5,) * 4), "cannot answer at exits 1, 2, 3, 4, 5: its stages are 1, 2-3, 4-5, which end at"),
            (ExitPolicy(POLICY.thresholds, "patience"), "cannot answer at exits 1, 2, 3, 4, 5"),
        ):
            path.unlink()
            policy.save(path)
            assert message in refusal(folder)
        path.write_text("{}")
        assert "is not a ranet exit policy" in refusal(folder)
        path.unlink()
        assert "does not exist" in refusal(folder)

    def test_no_byte_of_the_manifest_can_change_unnoticed(self, folder: Path) -> None:
        path, rng = folder / "manifest.json", random.Random(0)
        text = path.read_bytes()
        original = json.loads(text)
        for _ in range(150):
            place = rng.randrange(len(text))
            damaged = text[:place] + bytes([text[place] ^ (1 << rng.randrange(8))]) + text[place + 1 :]
            path.write_bytes(damaged)
            if not refusal(folder):
                assert json.loads(damaged) == original  # white space
            path.write_bytes(text[:place])
            assert refusal(folder)

    @pytest.mark.parametrize(
        ("place", "value", "message"),
        [
            (("network", "num_exits"), 0, "network.num_exits must be greater than or equal to 1, not 0"),
            (("network", "num_exits"), 4, "stages[2] must run from one of the 4 exits"),
            (("network", "num_exits"), 6, "stages[2].after must be empty after the last exit and nowhere else"),
            (("network", "num_exits"), True, "network.num_exits must be an integer, not true"),
            (("network", "num_classes"), 4, "classes must be a name for each of the 4 classes"),
            (("network", "image_size"), 33, "stages[0].before must be the images, [3, 33, 33]"),
            (("network", "image_size"), [32, 0], "image_size=[32, 0] must be an integer of at least 1, or two of them"),
            (("network", "heads_can_be_skipped"), 1, "must be true or false, not 1"),
            (("network", "fingerprint"), "f" * 16, "another network"),
            (("network", "cuts"), [0], "network.cuts is an entry that ranet does not know"),
            (("stages",), [], "stages must have at least 1 item, not 0"),
            (("stages", 0, "first"), 1, "stages[0] must run from one of the 5 exits to the same or a later one"),
            (("stages", 1, "first"), 0, "stages[1].before must be the images"),
            (("stages", 1, "last"), 0, "stages[1] must run from one of the 5 exits to the same or a later one"),
            (("stages", 1, "file"), "../graph_1_2.onnx", "stages[1].file must be a file of the folder"),
            (("stages", 1, "file"), "/etc/passwd", "stages[1].file must be a file of the folder"),
            (("stages", 1, "file"), "graph_0_0.onnx", "stages must not have the same file twice"),
            (("stages", 1, "bytes"), 11, "was exported with 11"),
            (("stages", 1, "sha256"), "0" * 64, "is not the one that was exported"),
            (("stages", 1, "sha256"), "no", "64 hexadecimal digits"),
            (("stages", 1, "inputs"), ["unheard of"], "inputs must be some of the names in stages[1].before"),
            (("stages", 1, "inputs"), [], "stages[1].inputs must have at least 1 item"),
            (("stages", 1, "logits"), "", 'stages[1].logits must have at least 1 character, not ""'),
            (("stages", 1, "after"), [], "stages[1].after must be empty after the last exit and nowhere else"),
            (("stages", 1, "after", 0, "shape"), [9], "stages that meet behind exit 3 must have the same state there"),
            (
                ("stages", 1, "after", 0, "shape"),
                [-1],
                "stages[1].after[0].shape[0] must be greater than or equal to 1, not -1",
            ),
            (("stages", 1, "before", 1, "name"), "passes by", "stages[1].before must have each name once"),
            (("policies",), [], "policies must have at least 1 item"),
            (("policies",), ["policy.json", "policy.json"], "policies must have each name once"),
            (("preprocessing",), [], "preprocessing must be an object, not []"),
            (
                ("preprocessing", "std"),
                [0, 0, 0],
                "preprocessing's std=[0, 0, 0] must be a list of positive numbers",
            ),
            (("preprocessing", "flip"), 1, "and nothing else"),
            (("preprocessing", "crop"), "top", "the preprocessing is 'top' and this version of ranet has 'center'"),
            (("golden",), [], "golden must be an object"),
            (("golden", "picture"), "../a.png", "golden.picture must be a file of the folder"),
            (("golden", "logits"), "a.npz", "golden.logits is an entry that ranet does not know"),
            (
                ("preprocessing",),
                {**PREPROCESSING, "image_size": 16},
                "prepares images of shape (3, 16, 16) for a network that reads (3, 32, 32)",
            ),
            (("classes",), ["one", "two"], "classes must be a name for each of the 3 classes"),
            (("data",), "photos", "data must be an object"),
            (("data", "digests", "train"), 7, "data.digests.train must be a string, not 7"),
            (("costs", "joules"), {}, "costs.joules is an entry that ranet does not know"),
            (("costs", "macs", "stages"), [[1, 2, 3]] * 3, "costs.macs must have stages of 5 x 5 counts"),
            (
                ("costs", "macs", "stages", 0, 4),
                -5,
                "costs.macs.stages[0][4] must be greater than or equal to 0, not -5",
            ),
            (("software", "onnx"), 1, "software.onnx must be a string, not 1"),
        ],
    )
    def test_a_manifest_that_was_made_up(self, folder: Path, place: tuple[Any, ...], value: Any, message: str) -> None:
        content = manifest_of(folder)
        target = content
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = value
        rewrite(folder, content)
        assert message in refusal(folder)

    def test_a_manifest_without_its_first_stage(self, folder: Path) -> None:
        content = manifest_of(folder)
        del content["stages"][0]
        rewrite(folder, content)
        assert "stages must have one that starts at the images" in refusal(folder)

    def test_every_entry_is_asked_for_and_nothing_but_it_will_do(self, folder: Path) -> None:
        """Each value in the manifest, left out or replaced: a sentence, or something that may be so."""
        original = manifest_of(folder)
        # What an engine computes does not hang on these.
        free = {"classes", "data", "software", "preprocessing", "golden"}
        harmless = 0
        for place in places({name: value for name, value in original.items() if name != "checksum"}):
            for junk in (None, -1, "?", [], {"?": 1}, "left out"):
                content = copy.deepcopy(original)
                target: Any = content
                for key in place[:-1]:
                    target = target[key]
                if junk == "left out":
                    del target[place[-1]]
                else:
                    target[place[-1]] = junk
                rewrite(folder, content)
                if content != original and not refusal(folder):
                    harmless += 1
                    stages = [name for name in place if name in ("name", "logits", "fingerprint", "inputs", "shape")]
                    older = (*place, junk) == ("network", "in_channels", "left out")
                    assert place[0] in free or stages or older, (place, junk)
        assert harmless < 60

    def test_what_could_not_be_read_is_not_written(self, tmp_path: Path) -> None:
        manifest = write_export(tmp_path / "export")
        before = (tmp_path / "export" / "manifest.json").read_bytes()
        broken = {**manifest, "classes": ["one"]}
        with pytest.raises(UserError, match="could not be read again: classes must be a name for each of the 3"):
            Manifest.write(tmp_path / "export" / MANIFEST, broken)
        assert (tmp_path / "export" / "manifest.json").read_bytes() == before
        shutil.rmtree(tmp_path / "export")


STAGE_SETS = st.sets(
    st.sampled_from([FusedStage(first, last) for first in range(EXITS) for last in range(first, EXITS)]), max_size=9
)


def all_chains(stages: set[FusedStage]) -> list[list[FusedStage]]:
    """Every chain from the images, by trying all sets of stages."""
    chains = []
    for count in range(1, EXITS + 1):
        for chosen in combinations(sorted(stages), count):
            joins = all(one.last + 1 == other.first for one, other in pairwise(chosen))
            if chosen[0].first == 0 and joins:
                chains.append(list(chosen))
    return chains


class TestChains:
    @given(STAGE_SETS)
    def test_cuts_are_the_ends_of_all_chains(self, stages: set[FusedStage]) -> None:
        assert reachable_cuts(stages) == tuple(sorted({chain[-1].last for chain in all_chains(stages)}))

    @given(STAGE_SETS, st.sets(st.integers(0, EXITS - 1), min_size=1))
    def test_the_chain_has_the_fewest_stages_that_stop_at_the_exits(
        self, stages: set[FusedStage], exits: set[int]
    ) -> None:
        possible = [
            chain
            for chain in all_chains(stages)
            if exits <= {stage.last for stage in chain} and chain[-1].last == max(exits)
        ]
        found = chain_through(sorted(exits), stages)
        assert (found is None) == (not possible)
        if found is not None:
            assert found in possible
            assert len(found) == min(map(len, possible))

    def test_stages_that_are_there_run_as_they_are(self, folder: Path) -> None:
        export = ExportedFolder(folder)
        assert export.stages_for(used_exits(POLICY)) == fused_stages([0, 2, 4]) == list(STAGES)
        assert export.stages_for([0, 4]) == list(STAGES), "through exit 3, which is not used"
        with pytest.raises(UserError, match="has no graph of stages 1-3: its stages are 1, 2-3, 4-5"):
            export.graph(FusedStage(0, 2))
