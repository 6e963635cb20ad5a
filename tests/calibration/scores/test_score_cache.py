"""A pass that is killed goes on; what is kept is never of something else; what cannot be kept does no harm."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ranet.calibration import ExitScores
from ranet.calibration.scores.cache import ScoreCache
from ranet.data import ImageData
from ranet.errors import UserError
from ranet.support.files import default_cache

IMAGES, CLASSES = 53, 7
KEY = {"network": "3f0a", "data": "77c1"}
ARRAYS = ("confidence", "margin", "entropy", "prediction", "correct_top5", "correct", "labels", "logits")


class Network(nn.Module):
    """Two exits that count how many images they were asked about."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dropout = nn.Dropout(0.5)
        self.heads = nn.ModuleList([nn.Linear(6, CLASSES), nn.Linear(6, CLASSES)])
        self.asked: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(images))
        features = self.dropout(images.flatten(1))
        return torch.stack([head(features) for head in self.heads])


class Sampler:
    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def batches(self) -> list[torch.Tensor]:
        return list(torch.arange(sum(self.sizes)).split(self.sizes))


class Loader:
    """The batches of some images, of these sizes; it dies at batch ``dies_at`` and counts what it reads."""

    def __init__(self, sizes: list[int], dies_at: int | None = None) -> None:
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(IMAGES, 6, generator=generator)
        self.labels = torch.randint(CLASSES, (IMAGES,), generator=generator)
        self.sizes, self.dies_at, self.read, self.skip = sizes, dies_at, 0, 0
        assert sum(sizes) == IMAGES

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        batches = list(zip(self.images.split(self.sizes), self.labels.split(self.sizes), strict=True))
        begin, self.skip = self.skip, 0
        for index in range(begin, len(batches) + 1):
            if self.dies_at is not None and index >= self.dies_at:
                raise KeyboardInterrupt
            if index < len(batches):
                self.read += 1
                yield batches[index]


class SkippingLoader(Loader):
    """A loader that skips batches without reading them, as the data module's loaders do."""

    @property
    def sampler(self) -> Sampler:
        return Sampler(self.sizes)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skip = state["given"]


SIZES = [8] * 6 + [5]
LOADERS = [Loader, SkippingLoader]


def assert_same(one: ExitScores, other: ExitScores) -> None:
    """To the last bit, and of the same types."""
    for name in ARRAYS:
        assert one.has(name) == other.has(name), name
        if one.has(name):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes()), name
    np.testing.assert_array_equal(one.temperatures, other.temperatures)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def killed(cache: ScoreCache, loader: Loader, network: nn.Module | None = None, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        cache.collect(network or Network(), loader, KEY, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"temperatures": [0.5, 2.0]}, {"keep_logits": True}, {"labelled": False}],
    ids=["plain", "temperatures", "logits", "unlabelled"],
)
@pytest.mark.parametrize("flush_seconds", [0.0, 1000.0])
def test_one_pass_is_kept(options: dict[str, Any], flush_seconds: float, tmp_path: Path) -> None:
    expected = ExitScores.collect(Network(), Loader(SIZES), **options)
    network, cache = Network().train(), ScoreCache(tmp_path / "deep" / "cache", flush_seconds)
    assert_same(cache.collect(network, Loader(SIZES), KEY, **options), expected)
    assert network.asked == SIZES
    assert network.dropout.training
    assert len(files(cache.folder)) == 1, "and no parts are left"

    loader = Loader(SIZES, dies_at=0)
    assert_same(cache.collect(network, loader, KEY, **options), expected)
    assert (network.asked, loader.read) == (SIZES, 0)
    # It is a score file like any other.
    assert_same(ExitScores.load(files(cache.folder)[0]), expected)


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("options", [{}, {"temperatures": [0.5, 2.0], "keep_logits": True, "labelled": False}])
@pytest.mark.parametrize("batch", range(1, len(SIZES) + 1))
def test_a_killed_pass_goes_on(kind: type[Loader], options: dict[str, Any], batch: int, tmp_path: Path) -> None:
    """Also if it was killed after the last batch, before the whole was written, and killed twice."""
    cache, network = ScoreCache(tmp_path, flush_seconds=0), Network()
    if batch > 2:
        killed(cache, kind(SIZES, dies_at=2), network, **options)
    killed(cache, kind(SIZES, dies_at=batch), network, **options)
    rest = kind(SIZES)
    scores = cache.collect(network, rest, KEY, **options)
    assert network.asked == SIZES, "every batch once"
    assert rest.read == (len(SIZES) - batch if kind is SkippingLoader else len(SIZES))
    assert_same(scores, ExitScores.collect(Network(), Loader(SIZES), **options))
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("kind", LOADERS)
@given(data=st.data())
def test_other_batches_never_give_other_scores(kind: type[Loader], data: st.DataObject, tmp_path_factory: Any) -> None:
    """Passes with any batches, killed anywhere, one after the other in one folder."""
    cache = ScoreCache(tmp_path_factory.mktemp("cache"), flush_seconds=0)
    cuts = st.lists(st.integers(1, IMAGES - 1), unique=True, max_size=6).map(sorted)
    sizes: list[int] = []
    for _ in range(data.draw(st.integers(1, 3))):
        chosen = data.draw(cuts)
        sizes = np.diff([0, *chosen, IMAGES]).tolist()
        killed(cache, kind(sizes, dies_at=data.draw(st.integers(0, len(sizes) - 1))))
    last = np.diff([0, *data.draw(cuts), IMAGES]).tolist() if data.draw(st.booleans()) else sizes
    network = Network()
    scores = cache.collect(network, kind(last), KEY)
    expected = ExitScores.collect(Network(), Loader(last))
    np.testing.assert_array_equal(scores.labels, expected.labels)
    assert_same(scores, expected)
    assert len(files(cache.folder)) == 1


def test_a_generator_that_cannot_be_asked_twice(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, flush_seconds=0)
    killed(cache, Loader(SIZES, dies_at=4))
    other = [8, 8, 3, 13, 21]
    scores = cache.collect(network := Network(), iter(Loader(other)), KEY)
    assert network.asked == other[2:]
    assert_same(scores, ExitScores.collect(Network(), Loader(other)))


def test_only_what_is_due_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that a batch moves by ten seconds, and a pass that writes every 25: three batches in each part."""
    clock = [0.0]

    class Slow(Network):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            clock[0] += 10
            return super().forward(images)

    monkeypatch.setattr("ranet.calibration.scores.cache.time.monotonic", lambda: clock[0])
    cache = ScoreCache(tmp_path, flush_seconds=25)
    killed(cache, Loader(SIZES, dies_at=6), Slow())
    assert [path.stem.split("_from_")[1] for path in files(tmp_path)] == ["0", "24"]
    cache.collect(network := Network(), Loader(SIZES), KEY)
    assert network.asked == SIZES[6:]


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ({**KEY, "network": "3f0b"}, {}),
        ({**KEY, "data": "77c2"}, {}),
        ({**KEY, "part": "0:10"}, {}),
        (KEY, {"temperatures": [1.0, 1.0]}),
        (KEY, {"temperatures": [1.0, 1.0 + 1e-15]}),
        (KEY, {"keep_logits": True}),
        (KEY, {"labelled": False}),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_key_is_another_file(
    key: dict[str, str], options: dict[str, Any], finished: bool, tmp_path: Path
) -> None:
    cache = ScoreCache(tmp_path, flush_seconds=0)
    killed(cache, Loader(SIZES, dies_at=3))
    if finished:
        cache.collect(Network(), Loader(SIZES), KEY)
    before = files(tmp_path)
    scores = cache.collect(network := Network(), Loader(SIZES), key, **options)
    assert network.asked == SIZES
    assert_same(scores, ExitScores.collect(Network(), Loader(SIZES), **options))
    assert set(files(tmp_path)) > set(before)


def test_another_version_of_the_scoring_code_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ScoreCache(tmp_path)
    cache.collect(Network(), Loader(SIZES), KEY)
    monkeypatch.setattr("ranet.calibration.scores.cache.SCORING_VERSION", 999)
    cache.collect(network := Network(), Loader(SIZES), KEY)
    assert network.asked == SIZES


def test_a_file_under_the_name_of_another_key_is_not_believed(tmp_path: Path) -> None:
    """As if two keys had one hash."""
    cache, other = ScoreCache(tmp_path / "one"), ScoreCache(tmp_path / "other")
    cache.collect(Network(), Loader(SIZES), KEY)
    wrong = Loader(SIZES)
    wrong.images += 1
    other.collect(Network(), wrong, {**KEY, "data": "77c2"})
    files(other.folder)[0].replace(files(cache.folder)[0])
    scores = cache.collect(network := Network(), Loader(SIZES), KEY)
    assert network.asked == SIZES
    assert_same(scores, ExitScores.collect(Network(), Loader(SIZES)))


def test_a_score_file_without_a_key_is_not_believed(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    scores = cache.collect(Network(), Loader(SIZES), KEY)
    scores.save(files(tmp_path)[0])
    cache.collect(network := Network(), Loader(SIZES), KEY)
    assert network.asked == SIZES


@given(data=st.data())
def test_damaged_files_are_never_believed(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Any file, whole or of a part, with bytes changed, cut off or put in: the scores are right all the same."""
    cache = ScoreCache(tmp_path_factory.mktemp("cache"), flush_seconds=0)
    finished = data.draw(st.booleans())
    killed(cache, Loader(SIZES, dies_at=3))
    if finished:
        cache.collect(Network(), Loader(SIZES), KEY)
    path = data.draw(st.sampled_from(files(cache.folder)))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["bit", "byte", "cut", "insert", "note"])):
        case "bit":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        case "byte":
            content[place] = data.draw(st.integers(0, 255))
        case "cut":
            del content[place:]
        case "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        case "note":  # the key and what else stands in the comment
            content[-1 - place % len(_comment(path))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    scores = cache.collect(Network(), Loader(SIZES), KEY)
    assert_same(scores, ExitScores.collect(Network(), Loader(SIZES)))


def _comment(path: Path) -> bytes:
    with ZipFile(path) as archive:
        return archive.comment


@pytest.mark.parametrize(("old", "new"), [(b"[[8,1]]", b"[[9,1]]"), (b"77c1", b"77c2")])
def test_a_changed_note_is_noticed(old: bytes, new: bytes, tmp_path: Path) -> None:
    """The size of the batches, by which others would be skipped, and the key: both make the file fit another pass."""
    cache = ScoreCache(tmp_path, flush_seconds=0)
    killed(cache, Loader(SIZES, dies_at=1))
    key = {**KEY, "data": "77c2"} if new == b"77c2" else KEY
    sizes = [9, 7, *SIZES[2:]] if new == b"[[9,1]]" else SIZES
    with pytest.raises(KeyboardInterrupt):
        ScoreCache(tmp_path / "named", 0).collect(Network(), Loader(SIZES, dies_at=1), key)
    (path,), (named,) = tmp_path.glob("*.npz"), (tmp_path / "named").iterdir()
    assert path.read_bytes().count(old) == 1
    (tmp_path / named.name).write_bytes(path.read_bytes().replace(old, new))
    cache.collect(network := Network(), Loader(sizes), key)
    assert network.asked == sizes


def test_an_array_less_is_noticed(tmp_path: Path) -> None:
    """A file of the right key in which something is missing is not taken for scores without it."""
    cache = ScoreCache(tmp_path)
    cache.collect(Network(), Loader(SIZES), KEY)
    path = files(tmp_path)[0]
    with ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if name != "entropy.npy"}
        comment = archive.comment
    with ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
        archive.comment = comment
    assert cache.collect(Network(), Loader(SIZES), KEY).has("entropy")


@pytest.mark.parametrize("flush_seconds", [0.0, 1000.0])
def test_a_folder_that_cannot_be_written(flush_seconds: float, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = ScoreCache(tmp_path / "file" / "cache", flush_seconds)
    with pytest.warns(UserWarning, match=r"The scores cannot be written to .*file/cache") as caught:
        scores = cache.collect(Network(), Loader(SIZES), KEY)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert_same(scores, ExitScores.collect(Network(), Loader(SIZES)))


def test_a_full_disk_in_the_middle_of_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = ExitScores.save, []

    def third_fails(scores: ExitScores, path: Path) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        save(scores, path)

    monkeypatch.setattr(ExitScores, "save", third_fails)
    cache = ScoreCache(tmp_path, flush_seconds=0)
    with pytest.warns(UserWarning, match="No space left on device"):
        scores = cache.collect(Network(), Loader(SIZES), KEY)
    assert len(calls) == 3
    assert_same(scores, ExitScores.collect(Network(), Loader(SIZES)))
    assert not [path for path in files(tmp_path) if path.name.startswith(".")]


def test_a_short_pass_writes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = ExitScores.save, []
    monkeypatch.setattr(ExitScores, "save", lambda scores, path: (calls.append(path), save(scores, path))[1])
    ScoreCache(tmp_path, flush_seconds=1000).collect(Network(), Loader(SIZES), KEY)
    assert len(calls) == 1


def test_two_passes_at_once(tmp_path: Path) -> None:
    """One finishes in the middle of the other, and takes the other's parts away."""
    expected = ExitScores.collect(Network(), Loader(SIZES))
    cache = ScoreCache(tmp_path, flush_seconds=0)

    class Interrupted(Loader):
        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for index, batch in enumerate(super().__iter__()):
                if index == 4:
                    assert_same(ScoreCache(tmp_path, 0).collect(Network(), Loader(SIZES), KEY), expected)
                yield batch

    assert_same(cache.collect(Network(), Interrupted(SIZES), KEY), expected)
    assert len(files(tmp_path)) == 1
    assert_same(cache.collect(Network(), Loader(SIZES, dies_at=0), KEY), expected)


def test_mistakes_are_those_of_collect(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    with pytest.raises(UserError, match="gave no batch"):
        cache.collect(Network(), [], KEY)
    loader = Loader(SIZES)
    loader.labels += CLASSES
    with pytest.raises(UserError, match=r"must lie in 0\.\.6"):
        cache.collect(Network(), loader, KEY)
    with pytest.raises(UserError, match="one positive temperature for each of the 2 exits"):
        cache.collect(Network(), Loader(SIZES), KEY, temperatures=[1.0])
    assert files(tmp_path) == []


@pytest.mark.parametrize("loader", ["device", "workers"])
def test_the_data_module_skips_what_was_scored(loader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loaders do skip: this is the one place where the cache and they meet."""
    few = {"train_copies": 1, "eval_copies": 1, "clutter": 0, "noise": 0, "eval_batch_size": 100}
    data = ImageData("digits", loader=loader, **few, **({"num_workers": 0} if loader == "workers" else {}))

    class Small(Network):
        def __init__(self, dies_at: int = 99) -> None:
            super().__init__()
            self.heads = nn.ModuleList([nn.Linear(3 * 32 * 32, 10)] * 2)
            self.dies_at = dies_at

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(self.asked) == self.dies_at:
                raise KeyboardInterrupt
            return super().forward(images)

    torch.manual_seed(0)
    dying = Small(dies_at=3)
    whole = Small()
    whole.load_state_dict(dying.state_dict())
    cache, key = ScoreCache(tmp_path, flush_seconds=0), {"data": data.fingerprint("test")}
    with pytest.raises(KeyboardInterrupt):
        cache.collect(dying, data.evaluation_loader("test"), key)
    rest = data.evaluation_loader("test")
    read: list[int] = []
    load = rest._load
    monkeypatch.setattr(rest, "_load", lambda batches: (read.extend(map(len, batches)), load(batches))[1])
    scores = cache.collect(whole, rest, key)
    assert (dying.asked, whole.asked, read) == ([100] * 3, [100, 49], [100, 49])
    assert_same(scores, ExitScores.collect(whole, data.test_dataloader()))


def test_a_process_that_dies_without_a_word(tmp_path: Path) -> None:
    """What lies there at any moment is what SIGKILL leaves; here with half of a file that was just being written."""
    left = tmp_path / "left"

    class Watched(Loader):
        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for index, batch in enumerate(super().__iter__()):
                if index == 5:
                    shutil.copytree(tmp_path / "cache", left)
                yield batch

    ScoreCache(tmp_path / "cache", 0).collect(Network(), Watched(SIZES), KEY)
    (whole,) = files(tmp_path / "cache")
    (left / f".{whole.stem}.123.partial.npz").write_bytes(whole.read_bytes()[:99])
    scores = ScoreCache(left).collect(network := Network(), SkippingLoader(SIZES), KEY)
    assert network.asked == SIZES[5:]
    assert_same(scores, ExitScores.collect(Network(), Loader(SIZES)))


def test_nothing_is_warned_of_where_nothing_is_wrong(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ScoreCache(tmp_path, 0).collect(Network(), Loader(SIZES), KEY)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RANET_CACHE": "/there", "XDG_CACHE_HOME": "/xdg"}, "/there"),
        ({"RANET_CACHE": "~/there"}, "/home/me/there"),
        ({"RANET_CACHE": "", "XDG_CACHE_HOME": "/xdg"}, "/xdg/ranet"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/ranet"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/ranet"),
        ({}, "/home/me/.cache/ranet"),
    ],
)
def test_the_default_folder(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_cache() == Path(expected)
