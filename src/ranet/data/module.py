"""The data module of all data sets."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ranet.data.loading.device_loader import DeviceLoader
from ranet.data.loading.erasing import Erasing
from ranet.data.loading.loader import EpochLoader
from ranet.data.loading.sampling import EpochSampler
from ranet.data.loading.transforms import EvaluationGeometry, describe_evaluation
from ranet.data.loading.worker_loader import Transformed, WorkerLoader, default_workers
from ranet.data.sets.catalogue import CATALOGUE
from ranet.data.sets.digits import DigitOptions
from ranet.data.sets.sources import ON_BAD, OnBad, Samples, TensorSet, download_cifar
from ranet.data.sets.split_reader import SPLITS, Split, SplitReader
from ranet.data.sets.splits import divide
from ranet.errors import UserError, require_known

_LOADERS = ("auto", "device", "workers")


class ImageData(SplitReader, pl.LightningDataModule):
    """A data set of labelled images, with the published splits, transforms and loading.

    Every batch is a pair (images float32 (B, C, H, W) normalised, labels int64 (B,)). What epoch e yields is a pure
    function of ``seed``, e and the process. The data module itself distributes the batches to the processes of a
    distributed run, with or without the trainer's ``use_distributed_sampler``.

    Validation images are held out of the training images, the same share of every class, and are seen through the
    evaluation transform only. Test images are the data set's own: for ``imagenet`` and for an ``imagefolder`` without
    ``test/`` these are ``val/``, as in the papers; an ``imagefolder`` with ``test/`` validates on ``val/``. A split is
    read when it is first used.

    Args:
        name: ``digits`` (needs no files), ``cifar10``, ``cifar100``, ``imagenet`` or ``imagefolder``.
        root: the folder that holds ``cifar-10-batches-py``, ``cifar-100-python`` or ``imagenet/``; for ``imagefolder``
            the one that holds ``train/`` and ``val/``. None is $RANET_DATA, or else ``./data``.
        batch_size: the training images per batch and process, as in Lightning.
        eval_batch_size: the validation or test images per batch and process.
        image_size: the side of the images in pixels, or their height and width; None is the published side (32 or
            224). CIFAR has only 32.
        channels: 1 for grey images, 3 for RGB (the default); image files are converted. CIFAR has only 3.
        mean: the mean of each channel to subtract, of pixel values in [0, 1]; None is the published one. That of
            ``imagefolder`` is ImageNet's.
        std: the standard deviation of each channel to divide by, likewise.
        preprocessing: options of `ranet.images.preprocessing.Preprocessing` in place of the last options; several, in a
            list, for the members of a cascade, which read the same pictures. Such data cannot be trained on.
        validation_size: how many training images are held out (an integer) or which share of them (a float below 1);
            0 is none, None the published number: 5,000 for CIFAR, 50,000 for ImageNet, else a share of 0.1. For
            ``digits`` it counts source digits. An ``imagefolder`` with ``test/`` takes none.
        validation_from: ``train``, or ``test`` to hold validation images out of the test images (half of them by
            default), for a network that has learned from all training images.
        seed: the seed of order and augmentation.
        split_seed: the seed of the splits (and of the canvases of ``digits``), apart from ``seed`` so that runs with
            different seeds share their validation set.
        download: fetch CIFAR if it is not there.
        loader: ``device`` keeps all images on the device and augments whole batches there; ``workers`` reads and
            augments in worker processes; ``auto`` is ``device`` for CIFAR and digits and ``workers`` for folders.
        num_workers: the worker processes of each training process, 0 for none; None is one per CPU core, 8 at most.
        train_limit: train on this many of the training images, a seeded choice; None is all.
        on_bad: at image files that cannot be read, ``stop`` when a split is first used (the default), or ``skip`` them.
        erasing, cutout: random erasing and cutout of training images; see `ranet.data.loading.erasing.Erasing`.
        min_size, max_size, clutter, noise, train_copies, eval_copies: only for ``digits``; see
            `ranet.data.sets.digits.DigitOptions`.

    Attributes:
        facts: image size, statistics and augmentation of the data set.
        image_size: the side of the images in pixels, or their (height, width).

    Raises:
        UserError: an option is invalid or does not apply to this data set.

    Example:
        >>> data = ImageData("digits", batch_size=16, train_copies=1)
        >>> images, labels = next(iter(data.train_dataloader()))
        >>> images.shape, labels.shape, data.num_classes
        (torch.Size([16, 3, 32, 32]), torch.Size([16]), 10)
    """

    name: str  # where Lightning's may be None

    def __init__(
        self,
        name: str,
        root: str | Path | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 500,
        image_size: int | Sequence[int] | None = None,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        preprocessing: Sequence[Mapping[str, Any]] | None = None,
        validation_size: int | float | None = None,
        validation_from: str = "train",
        seed: int = 0,
        split_seed: int = 0,
        download: bool = False,
        loader: str = "auto",
        num_workers: int | None = None,
        train_limit: int | None = None,
        on_bad: OnBad | None = None,
        erasing: float = 0.0,
        cutout: int = 0,
        min_size: int | None = None,
        max_size: int | None = None,
        clutter: int | None = None,
        noise: int | None = None,
        train_copies: int | None = None,
        eval_copies: int | None = None,
    ) -> None:
        pl.LightningDataModule.__init__(self)
        require_known("data set", name, CATALOGUE)
        require_known("data loader", loader, _LOADERS)
        for option, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
            ("train_limit", train_limit, 1),
        ):
            if value is not None and (not isinstance(value, int) or value < least):
                raise UserError(f"data.{option}={value} must be an integer of at least {least}.")
        facts = CATALOGUE[name].chosen(image_size, channels, mean, std, preprocessing)
        placement = {
            "min_size": min_size,
            "max_size": max_size,
            "clutter": clutter,
            "noise": noise,
            "train_copies": train_copies,
            "eval_copies": eval_copies,
        }
        given = {option: value for option, value in placement.items() if value is not None}
        self.image_size = facts.image_size
        self.resident = facts.in_memory if loader == "auto" else loader == "device"
        if given and name != "digits":
            raise UserError(f"data.{next(iter(given))} is an option of the data set digits; remove it for {name}.")
        if root is not None and name == "digits":
            raise UserError("The data set digits is part of ranet and has no files; remove data.root.")
        if download and name not in ("cifar10", "cifar100"):
            raise UserError(f"data.download is for cifar10 and cifar100; {name} cannot be downloaded by ranet.")
        if loader == "device" and not facts.in_memory:
            raise UserError(f"data.loader=device is for cifar10, cifar100 and digits; use workers for {name}.")
        if num_workers is not None and self.resident:
            raise UserError(
                "data.num_workers has no effect on the device loader; remove it or set data.loader=workers."
            )
        if name.startswith("cifar") and (facts.stored_size, facts.channels) != (32, 3):
            raise UserError(
                f"The images of {name} are 32 pixels a side and RGB; remove data.image_size and data.channels."
            )
        require_known("data.validation_from", validation_from, ["train", "test"])
        if name == "digits" and validation_from == "test":
            raise UserError("data.validation_from=test has no effect on digits; remove it.")
        if on_bad is not None:
            require_known("data.on_bad", on_bad, ON_BAD)
            if facts.in_memory:
                raise UserError(f"data.on_bad is for images in files and has no effect on {name}; remove it.")
        self.erasing = Erasing(erasing, cutout, self.image_size)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.download = download
        self.num_workers = num_workers
        digits = DigitOptions(facts.stored_size, facts.channels, **given) if name == "digits" else DigitOptions()
        folder = Path(root or os.environ.get("RANET_DATA") or "data")
        source: Split = "test" if validation_from == "test" else "train"
        held_out = validation_size, source
        SplitReader.__init__(self, name, facts, folder, *held_out, split_seed, train_limit, digits, on_bad or "stop")

    def prepare_data(self) -> None:
        """Download CIFAR if ``download`` is set; Lightning calls this in one process of each machine.

        Raises:
            UserError: if the download fails.
        """
        if self.download:
            download_cifar(self.name, self.root)

    def setup(self, stage: str | None = None) -> None:
        """Load the images of all splits, or list their files, once; raises as `samples`."""
        for split in SPLITS:
            self.samples(split)

    def train_dataloader(self) -> EpochLoader:
        """Return the training batches, with a new order and augmentation in each epoch.

        Raises:
            UserError: if the data have a `preprocessing` of their own.
        """
        if self.facts.prepares is not None:
            raise UserError("data.preprocessing is for evaluation; train with data.image_size, mean and std.")
        return self._load(self.samples("train"), "train", training=True)

    def val_dataloader(self) -> EpochLoader | list[EpochLoader]:
        """Return the validation batches; an empty list, at which Lightning skips validation, if nothing is held out."""
        if self.size("validation"):
            return self.evaluation_loader("validation")
        # Lightning warns of an empty list, but validation_size=0 means it.
        warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
        return []

    def test_dataloader(self) -> EpochLoader:
        """Return the test batches."""
        return self.evaluation_loader("test")

    def evaluation_loader(self, split: Split, part: slice | Tensor | None = None) -> EpochLoader:
        """Return the batches of a split, or of a part of it, in order and with the evaluation transform, even of train.

        A part is a slice, or indices int64 (n,).

        Raises:
            UserError: if there are no images.
        """
        samples = self._part(split, part)
        if not len(samples):
            total = self.size(split)
            raise UserError(f"None of the {total} {split} images is chosen; choose others, or enlarge the split.")
        return self._load(samples, split, training=False)

    def augmented_loader(self, epoch: int, part: slice) -> EpochLoader:
        """Return the batches of a part of the training images, in order, with the augmentation of an epoch."""
        loader = self._load(self._part("train", part), "train", training=True, shuffled=False)
        loader.sampler.set_epoch(epoch)
        return loader

    def validation_parts(self, share: float) -> tuple[Tensor, Tensor]:
        """Split the validation images in two by a seeded permutation, for example for temperatures and thresholds.

        Both parts are random samples of all classes, in any order of the images. All copies of a digit (``digits``) are
        in the same part.

        Returns:
            The indices int64 of the first part, this share of the images, and of the rest: disjoint and complete.

        Raises:
            UserError: if a part would be empty.
        """
        copies = self.digit_options.eval_copies if self.name == "digits" else 1
        return divide(self.size("validation"), share, self.split_seed, copies)

    def images_per_class(self, split: Split) -> Tensor:
        """Return the number of images of each class in a split, int64 (C,)."""
        return torch.bincount(self.samples(split).labels, minlength=self.num_classes)

    def size(self, split: Split, part: slice | Tensor | None = None) -> int:
        """Return the number of images of a split, or of a part of it as in :meth:`evaluation_loader`."""
        return len(self._part(split, part))

    def _part(self, split: Split, part: slice | Tensor | None) -> Samples:
        samples = self.samples(split)
        return samples if part is None else samples.subset(torch.arange(len(samples))[part])

    def _load(self, samples: Samples, split: Split, training: bool, shuffled: bool = True) -> EpochLoader:
        batch_size = self.batch_size if training else self.eval_batch_size
        rank, world_size, device = 0, 1, torch.device("cpu")
        if self.trainer is not None:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            device = self.trainer.strategy.root_device
        if len(samples) < world_size or (world_size > 1 and batch_size == 1 and not training):
            raise UserError(
                f"{len(samples)} {split} images in batches of {batch_size} cannot be distributed to {world_size} "
                "processes; use fewer processes, or a data.eval_batch_size above 1."
            )
        sampler = EpochSampler(len(samples), batch_size, self.seed if training else None, rank, world_size, shuffled)
        erasing = self.erasing if training and self.erasing.enabled else None
        if self.resident:
            assert isinstance(samples, TensorSet)
            return DeviceLoader(samples, self.facts, sampler, device, erasing)
        workers = default_workers(world_size) if self.num_workers is None else self.num_workers
        return WorkerLoader(samples, self.facts, sampler, device, workers, erasing)

    @property
    def val_sizes(self) -> Tensor | None:
        """The side in pixels of the digit in each validation image, int64 (N,), in order; None for other sets."""
        return getattr(self.samples("validation"), "sizes", None)

    @property
    def test_sizes(self) -> Tensor | None:
        """The side in pixels of the digit in each test image, likewise."""
        return getattr(self.samples("test"), "sizes", None)

    def test_images(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return the test images at ``indices`` as the network sees them before normalisation: uint8 (n, C, H, W)."""
        dataset = Transformed(self.samples("test"), EvaluationGeometry(self.facts.preprocessing))
        return torch.stack([dataset.image(int(index)) for index in indices])

    def fingerprint(self, split: Split, part: slice | Tensor | None = None) -> str:
        """Return 16 hexadecimal digits that identify the images and labels of a split and the evaluation transform.

        They do not depend on the location of the files or the batch size. They change with the split, and with the part
        of it as in :meth:`evaluation_loader`. Images in files enter by path and length, not by content; use
        :meth:`touched` too to identify their content on this machine.
        """
        parts = [self.name, split, self._part(split, part).digest(), describe_evaluation(self.facts)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def touched(self, split: Split, part: slice | Tensor | None = None) -> str:
        """Return a str that changes when a file of the split is written again; empty for sets in memory."""
        return self._part(split, part).touched()
