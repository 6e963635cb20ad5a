"""The splits of a data set, each read at its first use; they can follow the classes and held-out images of a run."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ranet.data.record import DataRecord
from ranet.data.sets.catalogue import Facts
from ranet.data.sets.digits import DigitOptions, make_digits
from ranet.data.sets.sources import (
    FileSet,
    OnBad,
    Samples,
    TensorSet,
    all_but,
    list_classes,
    list_images,
    load_cifar,
    readable,
)
from ranet.data.sets.splits import choose, hold_out_stratified
from ranet.errors import UserError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_log = logging.getLogger(__name__)


class SplitReader:
    """The training, validation and test images of a data set; the arguments are those of `ranet.data.ImageData`.

    Attributes:
        folder: the folder that holds those of the splits, where images are in files.
    """

    name: str

    def __init__(
        self,
        name: str,
        facts: Facts,
        root: Path,
        validation_size: int | float | None,
        validation_from: Split,
        split_seed: int,
        train_limit: int | None,
        digit_options: DigitOptions,
        on_bad: OnBad,
    ) -> None:
        self.name = name
        self.facts = facts
        self.root = root
        self.folder = root / "imagenet" if name == "imagenet" else root
        self.split_seed = split_seed
        self.digit_options = digit_options
        self.validation_from = validation_from
        self._holds_out = validation_size is not None
        usual = 0.5 if validation_from == "test" else facts.validation_size
        self.validation_size = usual if validation_size is None else validation_size
        self._train_limit = train_limit
        self._on_bad: OnBad = on_bad
        self._followed: DataRecord | None = None
        self._chosen_anew = False
        self._held_out: tuple[str, ...] | tuple[int, ...] | None = None
        self._read_splits: dict[Split, Samples] = {}

    def follow(self, record: DataRecord, chosen_anew: bool = False) -> None:
        """Use the labels and splits of a training run; call this before the images are read.

        Labels follow the run's order of the classes. Its held-out images are the validation images, even if images were
        added to the training images since. A log line reports images that have changed. If the data are chosen anew,
        they may be others than those of the run: its held-out images are used if all of them exist here, else others.
        """
        assert not self._read_splits, "the images were read already"
        self._followed, self._chosen_anew = record, chosen_anew
        if not chosen_anew:
            self.validation_from = "test" if record.held_out_of == "test" else "train"

    @cached_property
    def class_names(self) -> list[str]:
        """The names of the classes in the order of the labels; for folders, the names of the class folders.

        Raises:
            UserError: the folder of the training images is missing, or has other classes than the run to follow.
        """
        own = self.facts.class_names
        if self._followed is None:
            return list_classes(self.folder / "train") if own is None else list(own)
        if own is not None:
            self._followed.require_classes(own, self.name)
        return list(self._followed.classes)

    @property
    def num_classes(self) -> int:
        """The number of classes C; raises as `class_names`, but reads no files if the data set is known."""
        known = self.facts.num_classes if self._followed is None else None
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
        """Return the record of these data for a training run; raises as `samples`."""
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
            train, validation, test = make_digits(self.digit_options, self.validation_size, self.split_seed)
            return {"train": self._limited(train), "validation": validation, "test": test}
        if self.facts.in_memory:
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
        if self.name == "imagenet" and len(self.class_names) != self.facts.num_classes:
            raise UserError(
                f"{self.folder / 'train'} holds {len(self.class_names)} classes, not ImageNet's "
                f"{self.facts.num_classes}; use data=imagefolder for other sets."
            )
        if self._followed is not None:
            self._followed.require_classes(list_classes(self.folder / part), str(self.folder / part))
        return readable(list_images(self.folder / part, self.class_names), self._on_bad)

    def _relabelled(self, samples: TensorSet) -> TensorSet:
        """Return the samples with the labels of the followed run."""
        own = list(self.facts.class_names or ())
        if self.class_names == own:
            return samples
        order = torch.tensor([self.class_names.index(name) for name in own])
        return TensorSet(samples.images, order[samples.labels], samples.sizes)

    def _hold_out(self, images: Samples) -> dict[Split, Samples]:
        """Split the training or test images as the followed run did, else by the seed."""
        held_out = None if self._followed is None else self._recorded(self._followed, images)
        if held_out is None:
            held_out = hold_out_stratified(images.labels, self.validation_size, self.split_seed)[1]
        validation, rest = images.subset(held_out), images.subset(all_but(held_out, len(images)))
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
        return train.subset(choose(len(train), self._train_limit, self.split_seed))

    def _say_if_changed(self, split: Split) -> None:
        record = self._followed
        if record is None or self._chosen_anew or self._read_splits[split].digest()[:16] == record.digests[split]:
            return
        before, now = record.images[split], len(self._read_splits[split])
        _log.info(f"The {split} images changed since the network was trained: {before:,} then, {now:,} now.")
