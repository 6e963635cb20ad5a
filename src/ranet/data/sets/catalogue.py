"""Published facts about each data set: image size, statistics, augmentation and number of held-out images."""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Facts:
    """The facts of one data set.

    Args:
        image_size: the side in pixels of the images that the network sees.
        mean: the mean of each channel, of pixel values in [0, 1].
        std: the standard deviation of each channel, likewise.
        validation_size: how many training images are held out (an integer) or which share of them (a float in (0, 1)).
        num_classes: number of classes; None if it follows from the folder.
        class_names: name of each class in the order of the labels; None if it follows from the folder.
        crop_padding: the zero padding in pixels before the random crop; None for sets of images of any size, which are
            cropped and resized instead.
        flip: whether training images are mirrored with probability 1/2.
    """

    image_size: int
    mean: RGB
    std: RGB
    validation_size: int | float
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    crop_padding: int | None = None
    flip: bool = True

    @property
    def in_memory(self) -> bool:
        """Whether the set is held in memory as one tensor (small images, all of one size)."""
        return self.crop_padding is not None


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
