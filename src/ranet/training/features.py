"""The data of training heads on a frozen backbone: what heads read of each image, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from ranet.data.loading.loader import Batch, EpochLoader
from ranet.data.loading.sampling import EpochSampler
from ranet.data.module import ImageData, Split
from ranet.models.adapted.features import features_of, with_added_exits
from ranet.models.fingerprint import network_fingerprint
from ranet.models.staged import StagedNetwork
from ranet.support.files import written_whole
from ranet.support.strict_json import canonical_json

#: Images in a file: what a killed computation loses at most.
IMAGES_IN_FILE = 4096
Shown = Callable[[int, int], None]


class FeatureData(pl.LightningDataModule):
    """The features of the training and validation images of a data set, as batches (float32 (B, F), int64 (B,)).

    Epoch e trains on version e mod ``copies`` of the images: version 0 is the images as in evaluation, the others are
    augmented as in the epochs of this number. Every version is computed when it is first used, and kept in files.

    Args:
        network: the network whose frozen backbone computes the features (`with_added_exits`), on its device.
        data: its images.
        folder: of the files.
        computed_by: what the features depend on besides the network and the images, such as the versions of packages.
        copies: number of versions of each training image.
        shown: called with the number of batches that are done and their total.
    """

    def __init__(
        self,
        network: StagedNetwork,
        data: ImageData,
        folder: Path,
        computed_by: Mapping[str, Any],
        copies: int = 1,
        shown: Shown = lambda done, total: None,
    ) -> None:
        super().__init__()
        self._network = network
        self._data = data
        self._folder = folder
        self._shown = shown
        self.copies = copies
        inner = with_added_exits(network)
        self._key = {
            "computed_by": dict(computed_by),
            "device": next(network.parameters()).device.type,
            "backbone": network_fingerprint(inner.backbone, {"code": inner.code, "heads": [*map(str, inner.heads)]}),
        }

    def setup(self, stage: str | None = None) -> None:
        """Compute all features that are not on disk yet."""
        self.train_dataloader()
        self.val_dataloader()

    def train_dataloader(self) -> FeatureLoader:
        """Return the training batches, in a new order in each epoch."""
        labels = self._data.samples("train").labels
        sampler = EpochSampler(len(labels), self._data.batch_size, self._data.seed)
        versions = [self._features("train", copy) for copy in range(self.copies)]
        return FeatureLoader(versions, labels, sampler, self._device())

    def val_dataloader(self) -> FeatureLoader | list[FeatureLoader]:
        """Return the validation batches, in order; an empty list if no images are held out."""
        labels = self._data.samples("validation").labels
        if not len(labels):
            return []
        sampler = EpochSampler(len(labels), self._data.eval_batch_size, None)
        return FeatureLoader([self._features("validation", 0)], labels, sampler, self._device())

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _features(self, split: Split, copy: int) -> list[Path]:
        """Return the files with the features of a version of a split, and compute those that are missing."""
        data = self._data
        augmentation = [copy, data.seed, asdict(data.erasing)] if copy else []
        files, loaders = [], []
        for i, first in enumerate(range(0, data.size(split), IMAGES_IN_FILE)):
            part = slice(first, first + IMAGES_IN_FILE)
            key = {
                **self._key,
                "data": data.fingerprint(split, part),
                "files": data.touched(split, part),
                "augmentation": augmentation,
            }
            name = hashlib.sha256(canonical_json(key).encode()).hexdigest()[:32]
            files.append(self._folder / f"features_{name}.npy")
            if not files[-1].exists():
                epoch = 1 + i + copy * data.size(split)  # another augmentation in every file
                loaders.append(
                    (files[-1], data.augmented_loader(epoch, part) if copy else data.evaluation_loader(split, part))
                )
        self._folder.mkdir(parents=True, exist_ok=True)
        total, done = sum(len(loader) for _, loader in loaders), 0
        for file, loader in loaders:
            rows = []
            for images, _ in loader:
                rows.append(self._of(images))
                done += 1
                self._shown(done, total)
            with written_whole(file) as partial:
                np.save(partial, torch.cat(rows).numpy())
        return files

    def _of(self, images: Tensor) -> Tensor:
        training = self._network.training
        self._network.eval()
        found = features_of(self._network, images.to(next(self._network.parameters()).device))
        self._network.train(training)
        return found.float().cpu()


class FeatureLoader(EpochLoader):
    """The batches of features in files; epoch e reads version e mod their number.

    Args:
        versions: files of each version, with up to `IMAGES_IN_FILE` rows each.
        labels: int64 (N,).
        sampler: order of each epoch.
        device: of the batches.
    """

    def __init__(
        self, versions: Sequence[Sequence[Path]], labels: Tensor, sampler: EpochSampler, device: torch.device
    ) -> None:
        super().__init__(sampler, device)
        self._versions = [[np.load(file, mmap_mode="r") for file in files] for files in versions]
        self._labels = labels

    def _load(self, batches: list[Tensor]) -> Iterator[Batch]:
        files = self._versions[self.sampler.epoch % len(self._versions)]
        for batch in batches:
            rows = [files[i // IMAGES_IN_FILE][i % IMAGES_IN_FILE] for i in batch.tolist()]
            yield torch.from_numpy(np.stack(rows)).to(self.device), self._labels[batch].to(self.device)
