"""The data of heads on a frozen backbone: features of the right images, computed once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ranet import add_exits, create_network
from ranet.data import ImageData
from ranet.models.adapted.features import features_of
from ranet.models.staged import StagedNetwork
from ranet.training import features
from ranet.training.features import FeatureData


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "IMAGES_IN_FILE", 40)


def network(seed: int = 0) -> StagedNetwork:
    torch.manual_seed(seed)
    backbone = create_network("resnet20_cifar", depth=8, channels=4).eval()
    return add_exits(backbone, at=["layer1", "layer2"], input_size=(3, 32, 32)).eval()


def digits(**options: object) -> ImageData:
    return ImageData("digits", batch_size=16, train_limit=90, train_copies=1, eval_copies=1, **options)  # type: ignore[arg-type]


def test_every_epoch_gives_each_image_once_with_its_features(tmp_path: Path) -> None:
    cut, data = network(), digits()
    given = FeatureData(cut, data, tmp_path, {})
    images, labels = map(torch.cat, zip(*data.evaluation_loader("train"), strict=True))
    wanted = features_of(cut, images)
    loader = given.train_dataloader()
    orders = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        got, of = map(torch.cat, zip(*loader, strict=True))
        order = torch.cat(loader.sampler.batches())
        torch.testing.assert_close(got, wanted[order])
        assert of.equal(labels[order])
        orders.append(order)
    assert not orders[0].equal(orders[1])
    # The validation images come in their own order.
    images, labels = map(torch.cat, zip(*data.evaluation_loader("validation"), strict=True))
    got, of = map(torch.cat, zip(*given.val_dataloader(), strict=True))
    torch.testing.assert_close(got, features_of(cut, images))
    assert of.equal(labels)


def test_versions_of_the_images_take_turns(tmp_path: Path) -> None:
    loader = FeatureData(network(), digits(erasing=0.5), tmp_path, {}, copies=3).train_dataloader()
    seen = []
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        rows, order = torch.cat([rows for rows, _ in loader]), torch.cat(loader.sampler.batches())
        seen.append(rows[order.argsort()])
    assert seen[0].equal(seen[3])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        differ = (seen[one] != seen[other]).any(dim=1)
        assert differ.float().mean() > 0.3


def test_features_are_computed_once_and_again_after_a_kill_only_where_they_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(cut: StagedNetwork, images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return features_of(cut, images)

    monkeypatch.setattr(features, "features_of", counted)
    FeatureData(network(), digits(), tmp_path, {}).setup()
    files = sorted(tmp_path.glob("features_*.npy"))
    images = sum(calls)
    assert images == 90 + digits().size("validation")
    FeatureData(network(), digits(), tmp_path, {}).setup()
    assert sum(calls) == images
    # Heads are no part of what is kept; weights of the backbone are.
    heads = network()
    torch.nn.init.zeros_(heads.heads[0].linear.weight)  # type: ignore[union-attr, arg-type]
    FeatureData(heads, digits(), tmp_path, {}).setup()
    assert sum(calls) == images
    before = np.load(files[0])
    files[0].unlink()
    FeatureData(network(), digits(), tmp_path, {}).setup()
    assert sum(calls) <= images + 40
    np.testing.assert_array_equal(np.load(files[0]), before)
    FeatureData(network(seed=1), digits(), tmp_path, {}).setup()
    assert sum(calls) >= 2 * images
