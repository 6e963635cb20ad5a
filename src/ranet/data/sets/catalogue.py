"""Published facts about each data set: image size, statistics, augmentation and number of held-out images."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ranet.errors import UserError
from ranet.images.canvas import Canvas, on_one_canvas
from ranet.images.preprocessing import Prepares, Preprocessing, per_channel
from ranet.support.shapes import ImageSize, checked_image_size, sides

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in Pillow's grey (ITU-R 601)


@dataclass(frozen=True)
class Facts:
    """The facts of one data set."""

    image_size: ImageSize  # the images that the network sees: the side of a square in pixels, or (height, width)
    mean: tuple[float, ...]  # mean of each channel, of pixel values in [0, 1]
    std: tuple[float, ...]  # standard deviation of each channel, likewise
    # How many training images are held out (an integer), or which share of them (a float in (0, 1)).
    validation_size: int | float
    num_classes: int | None = None  # number of classes; None if it follows from the folder
    # Name of each class in the order of the labels; None if it follows from the folder.
    class_names: tuple[str, ...] | None = None
    # Zero padding in pixels before the random crop; None for images of any size, which are cropped and resized instead.
    crop_padding: int | None = None
    flip: bool = True  # whether training images are mirrored with probability 1/2
    prepares: Prepares | None = None  # the evaluation transform, if it does not follow from the facts above

    @property
    def in_memory(self) -> bool:
        """Whether the set is held in memory as one tensor (small images, all of one size)."""
        return self.crop_padding is not None

    @property
    def channels(self) -> int:
        """The number of channels C of the images that the network sees: 1 (grey) or 3 (RGB)."""
        return len(self.mean)

    @property
    def preprocessing(self) -> Prepares:
        """The evaluation transform of image files.

        Images of sets of any size are cut out of larger ones. Those of sets of one size are evaluated as stored, and
        files of another size are resized.

        Example:
            >>> CATALOGUE["imagenet"].preprocessing.resize, CATALOGUE["cifar10"].preprocessing.resize
            (256, 32)
        """
        return self.prepares or self._prepares()

    @property
    def stored_size(self) -> ImageSize:
        """The size of images in memory: that of each input on a canvas, else of the input."""
        return self.prepares.parts[0].image_size if isinstance(self.prepares, Canvas) else self.image_size

    def _prepares(self, **options: Any) -> Preprocessing:
        size = checked_image_size(options.get("image_size", self.image_size), "data.preprocessing.image_size")
        if self.in_memory and size != self.image_size:
            raise UserError(f"Images in memory are evaluated as stored, with {self.image_size} pixels, not {size}.")
        resize = size if self.in_memory else before_crop(size)
        usual = {"image_size": size, "resize": resize, "mean": self.mean, "std": self.std}
        try:
            return Preprocessing(**{**usual, **options})
        except TypeError as error:
            known = ", ".join(each.name for each in fields(Preprocessing))
            raise UserError(f"data.preprocessing={options} must have only {known}.") from error

    def chosen(
        self,
        image_size: int | Sequence[int] | None = None,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        preprocessing: Sequence[Mapping[str, Any]] | None = None,
    ) -> Facts:
        """Return the facts with the user's options in place of the published ones; None keeps these.

        The mean of grey follows from that of colour exactly, as its pixels do; its standard deviation as if the
        channels rose and fell together. The preprocessing is options of `Preprocessing` for each of the inputs on a
        `Canvas`, or for the one input.

        Raises:
            UserError: if an option is not allowed.

        Example:
            >>> grey = CATALOGUE["imagenet"].chosen([28, 40], channels=1)
            >>> grey.image_size, grey.mean, grey.std
            ((28, 40), (0.459,), (0.2256,))
        """
        size = self.image_size if image_size is None else checked_image_size(image_size, "data.image_size", least=8)
        if channels not in (None, 1, 3) or isinstance(channels, bool):
            raise UserError(f"data.channels={channels} must be 1 (grey) or 3 (RGB).")
        published = [self.mean, self.std]
        if channels == 1:
            published = [(round(sum(map(operator.mul, _LUMA, each)), 4),) for each in published]
        count = (len(published[0]),)
        facts = replace(
            self,
            image_size=size,
            mean=published[0] if mean is None else per_channel(mean, "data.mean", count),
            std=published[1] if std is None else per_channel(std, "data.std", count, positive=True),
        )
        if preprocessing is None:
            return facts
        prepares, _ = on_one_canvas([facts._prepares(**part) for part in preprocessing])
        return replace(facts, image_size=prepares.image_size, prepares=prepares)


def before_crop(image_size: ImageSize) -> ImageSize:
    """Return what an image covers before the central crop: the papers evaluate ImageNet on the central 224 of 256.

    Example:
        >>> before_crop(224), before_crop(128), before_crop((28, 40))
        (256, 146, (32, 46))
    """
    height, width = (round(side * 256 / 224) for side in sides(image_size))
    return height if height == width else (height, width)


_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# fmt: off
_CIFAR100_CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)
# fmt: on
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

CATALOGUE: dict[str, Facts] = {
    # Statistics, augmentation and held-out counts of CIFAR and ImageNet: those of the MSDNet and RANet papers.
    "cifar10": Facts(
        image_size=32,
        mean=(0.4914, 0.4824, 0.4467),
        std=(0.2471, 0.2435, 0.2616),
        validation_size=5000,
        num_classes=10,
        class_names=_CIFAR10_CLASSES,
        crop_padding=4,
    ),
    "cifar100": Facts(
        image_size=32,
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
        validation_size=5000,
        num_classes=100,
        class_names=_CIFAR100_CLASSES,
        crop_padding=4,
    ),
    "imagenet": Facts(image_size=224, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, validation_size=50_000, num_classes=1000),
    "imagefolder": Facts(image_size=224, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, validation_size=0.1),
    # Mean and standard deviation of the training canvases that the default options and split seed 0 give; a test
    # measures them again. A mirrored digit is not a digit, so there is no flip.
    "digits": Facts(
        image_size=32,
        mean=(0.160, 0.160, 0.160),
        std=(0.234, 0.234, 0.234),
        validation_size=0.1,
        num_classes=10,
        class_names=tuple("0123456789"),
        crop_padding=2,
        flip=False,
    ),
}
