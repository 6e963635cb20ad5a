"""Check of the images that are given to an engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.errors import UserError

# Up to this many values are summed by BLAS, which does not ask for threads yet.
_FEW = 2**13


def checked_images(images: Any, shape: tuple[int, ...], device: str = "cpu") -> Any:
    """Return images as an engine computes them: an array (N, C, H, W) of finite floats.

    Args:
        images: a NumPy array, or a tensor; normalised as the network was trained.
        shape: (C, H, W) of an image that the network reads.
        device: where they are computed.

    Returns:
        A float32 array, without a copy where it is one; a tensor on a GPU stays one.

    Raises:
        UserError: for other shapes or types, and for NaN or infinities.

    Example:
        >>> checked_images(np.zeros((2, 3, 8, 8)), (3, 8, 8)).dtype
        dtype('float32')
    """
    if type(images) is np.ndarray and images.dtype == np.float32 and images.shape[1:] == shape:
        flags = images.flags  # as most come; the rest is for the others
        if flags.c_contiguous and flags.writeable and _finite(images):
            return images
    tensor = hasattr(images, "is_floating_point")
    if tensor and device == "cpu":
        images = images.cpu()
    on_gpu = tensor and images.device.type != "cpu"
    if tensor and images.is_floating_point():
        images = images.detach().float()  # NumPy has no bfloat16
    array = images
    if not on_gpu:
        try:
            array = np.asarray(images)
        except (ValueError, TypeError) as error:
            raise UserError(f"Images must be an array (N, C, H, W), not {type(images).__name__}.") from error
    floating = images.is_floating_point() if on_gpu else array.dtype.kind == "f"
    if not on_gpu and array.dtype.kind not in "biuf":
        raise UserError(f"Images must be an array of floats (N, C, H, W), not {type(images).__name__}.")
    if not floating:
        raise UserError(
            f"Images must be floats, normalised as the network was trained, and these are {array.dtype}: divide by "
            "255, subtract the mean and divide by the standard deviation of the training data."
        )
    if array.ndim != 4 or tuple(array.shape[1:]) != shape:
        raise UserError(
            f"The network reads images (N, {', '.join(map(str, shape))}), and these are {tuple(array.shape)}."
        )
    if not on_gpu:
        # PyTorch reads no array backwards, and warns of one that it may not write.
        array = np.require(array, np.float32, ["C", "W"])
    if not _finite(array):
        raise UserError("Some images hold NaN or infinities; leave them out, or repair what made them.")
    return array


def _finite(array: Any) -> bool:
    if not isinstance(array, np.ndarray):
        return bool(array.isfinite().all())
    # A sum is finite unless a value is not, or it overflows, which only then is worth a look at every value.
    if array.size < _FEW:
        total = float(np.vdot(array, array))
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(array.sum())
    return total - total == 0.0 or bool(np.isfinite(array).all())


def empty_images(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return a batch of no images."""
    return np.zeros((0, *shape), dtype=np.float32)
