"""Data sets, held-out splits, published transforms and loaders, as one Lightning data module."""

from ranet.data.module import ImageData, Split

__all__ = ["ImageData", "Split"]
