"""The splits of a data set, each read at its first use; they can follow the classes and held-out images of a run."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ranet.data.record import DataRecord
from ranet.data.sets.catalogue import CATALOGUE
from ranet.data.sets.digits import DigitOptions, make_digits
from ranet.data.sets.readable import ON_BAD, OnBad, readable
from ranet.data.sets.sources import FileSet, Samples, TensorSet, list_classes, list_images, load_cifar
from ranet.data.sets.splits import choose, hold_out_stratified
from ranet.errors import UserError, require_known

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_log = logging.getLogger(__name__)


class SplitReader:
    """A reader of the training, validation and test images of a data set.

    Args:
        name: name of the data set in the catalogue.
        root: as for ``ImageData``.
        validation_size: number (int) or share (float) of images to hold out; None is the published number of training
            images, or half of the test images.
        validation_from: the images that validation images are held out of, "train" or "test".
        split_seed: seed of the held-out images, of a limited training set and of the canvases of ``digits``.
        train_limit: number of training images to use, a seeded choice; None is all.
        digit_options: options of the placement, for ``digits``.
        on_bad: what to do with image files that cannot be read; see `readable`. None is "stop".

    Raises:
        UserError: if on_bad is unknown, or is given for images that are not in files.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        validation_size: int | float | None,
        validation_from: str,
        split_seed: int,
        train_limit: int | None,
        digit_options: DigitOptions,
        on_bad: OnBad | None,
    ) -> None:
        if on_bad is not None:
            require_known("data.on_bad", on_bad, ON_BAD)
            if CATALOGUE[name].in_memory:
                raise UserError(f"data.on_bad is for images in files and has no effect on {name}; remove it.")
        self.name = name
        self.root = root
        self.folder = root / "imagenet" if name == "imagenet" else root
        self._facts = CATALOGUE[name]
        self._holds_out = validation_size is not None
        require_known("data.validation_from", validation_from, ["train", "test"])
        if name == "digits" and validation_from == "test":
            raise UserError("data.validation_from=test has no effect on digits; remove it.")
        self.validation_from: Split = "test" if validation_from == "test" else "train"
        usual = 0.5 if validation_from == "test" else self._facts.validation_size
        self.validation_size = usual if validation_size is None else validation_size
        self._split_seed = split_seed
        self._train_limit = train_limit
        self._digit_options = digit_options
        self._on_bad: OnBad = on_bad or "stop"
        self._followed: DataRecord | None = None
        self._chosen_anew = False
        self._held_out: tuple[str, ...] | tuple[int, ...] | None = None
        self._read_splits: dict[Split, Samples] = {}

    def follow(self, record: DataRecord, chosen_anew: bool) -> None:
        """Use the labels and splits of a run; see ``ImageData.follow``."""
        assert not self._read_splits, "the images were read already"
        self._followed, self._chosen_anew = record, chosen_anew
        if not chosen_anew:
            self.validation_from = "test" if record.held_out_of == "test" else "train"

    @cached_property
    def class_names(self) -> list[str]:
        """The names of the classes in the order of the labels.

        Raises:
            UserError: if the data set has other classes than the run that it follows, or its folder is missing.
        """
        own = self._facts.class_names
        if self._followed is None:
            return list_classes(self.folder / "train") if own is None else list(own)
        if own is not None:
            self._followed.require_classes(own, self.name)
        return list(self._followed.classes)

    @property
    def num_classes(self) -> int:
        """The number of classes; it does not read files if the data set is known."""
        known = self._facts.num_classes if self._followed is None else None
        return known or len(self.class_names)

    def samples(self, split: Split) -> Samples:
        """Return the images of a split.

        Raises:
            UserError: if files are missing, damaged or cannot be read, folders do not match, or a split is larger than
                the set.
        """
        if split not in self._read_splits:
            self._read_splits |= self._read(split)
            self._say_if_changed(split)
        return self._read_splits[split]

    def record(self) -> DataRecord:
        """Return the record of these data for a training run."""
        splits = {split: self.samples(split) for split in SPLITS}
        return DataRecord(
            name=self.name,
            root=None if self.name == "digits" else str(self.root.resolve()),
            classes=tuple(self.class_names),
            held_out=self._held_out,
            held_out_of=self.validation_from,
            images={split: len(samples) for split, samples in splits.items()},
            digests={split: samples.digest()[:16] for split, samples in splits.items()},
        )

    def _read(self, split: Split) -> dict[Split, Samples]:
        """Read a split, and the splits that are read together with it."""
        if self.name == "digits":
            train, validation, test = make_digits(self._digit_options, self.validation_size, self._split_seed)
            return {"train": self._limited(train), "validation": validation, "test": test}
        if self._facts.in_memory:
            train, test = (self._relabelled(samples) for samples in load_cifar(self.name, self.root))
            if self.validation_from == "test":
                return {"train": self._limited(train), **self._hold_out(test)}
            return {"test": test, **self._hold_out(train)}
        own_test = self._has_own_test()
        if not own_test and split in ("validation", self.validation_from):
            return self._hold_out(self._list("train" if self.validation_from == "train" else "val"))
        if split == "test":
            return {"test": self._list("test" if own_test else "val")}
        if not own_test:
            return {"train": self._limited(self._list("train"))}
        if self._holds_out or self.validation_from == "test":
            raise UserError(
                f"{self.folder} has a test folder, so val/ is the validation set and nothing is held out; remove "
                "data.validation_size (null) and data.validation_from=test."
            )
        if split == "validation":
            return {"validation": self._list("val")}
        return {"train": self._limited(self._list("train"))}

    def _has_own_test(self) -> bool:
        """Return whether the folder has ``test/``, or had it when the followed run was trained."""
        if self._followed is not None and not self._chosen_anew:
            return self.name == "imagefolder" and self._followed.held_out is None
        return self.name == "imagefolder" and (self.folder / "test").is_dir()

    def _list(self, part: str) -> FileSet:
        if self.name == "imagenet" and len(self.class_names) != self._facts.num_classes:
            raise UserError(
                f"{self.folder / 'train'} holds {len(self.class_names)} classes, not ImageNet's "
                f"{self._facts.num_classes}; use data=imagefolder for other sets."
            )
        if self._followed is not None:
            self._followed.require_classes(list_classes(self.folder / part), str(self.folder / part))
        return readable(list_images(self.folder / part, self.class_names), self._on_bad)

    def _relabelled(self, samples: TensorSet) -> TensorSet:
        """Return the samples with the labels of the followed run."""
        own = list(self._facts.class_names or ())
        if self.class_names == own:
            return samples
        order = torch.tensor([self.class_names.index(name) for name in own])
        return TensorSet(samples.images, order[samples.labels], samples.sizes)

    def _hold_out(self, images: Samples) -> dict[Split, Samples]:
        """Split the training or test images as the followed run did, else by the seed."""
        held_out = None if self._followed is None else self._recorded(self._followed, images)
        if held_out is None:
            held_out = hold_out_stratified(images.labels, self.validation_size, self._split_seed)[1]
        stays = torch.ones(len(images), dtype=torch.bool)
        stays[held_out] = False
        validation, rest = images.subset(held_out), images.subset(stays.nonzero().flatten())
        self._held_out = tuple(held_out.tolist()) if isinstance(validation, TensorSet) else validation.names()
        if self.validation_from == "test":
            return {"validation": validation, "test": rest}
        return {"train": self._limited(rest), "validation": validation}

    def _recorded(self, record: DataRecord, images: Samples) -> Tensor | None:
        """Return the indices of the images that the run held out; None if these are other data."""
        same = record.name == self.name and record.held_out_of == self.validation_from
        wanted = set(record.held_out or ()) if same else set()
        names = range(len(images)) if isinstance(images, TensorSet) else images.names()
        found = [index for index, name in enumerate(names) if name in wanted]
        complete = record.held_out is not None and same and len(found) == len(wanted)
        if self._chosen_anew and not complete:
            return None
        if (wanted and not found) or record.held_out is None or not same:
            raise UserError(
                f"The images that the run held out for validation are not in {self.folder / 'train'}; put them back, "
                f"or use data={self.name} for data on which the network was not trained."
            )
        return torch.tensor(found, dtype=torch.int64)

    def _limited(self, train: Samples) -> Samples:
        if self._train_limit is None:
            return train
        return train.subset(choose(len(train), self._train_limit, self._split_seed))

    def _say_if_changed(self, split: Split) -> None:
        record = self._followed
        if record is None or self._chosen_anew or self._read_splits[split].digest()[:16] == record.digests[split]:
            return
        before, now = record.images[split], len(self._read_splits[split])
        _log.info(f"The {split} images changed since the network was trained: {before:,} then, {now:,} now.")
