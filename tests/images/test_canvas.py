"""A canvas holds what each network would read of the picture."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from ranet import UserError
from ranet.images.canvas import Canvas, on_one_canvas, prepares_from_dict
from ranet.images.preprocessing import Preprocessing

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 83, 3), dtype=np.uint8))
PARTS = st.builds(
    Preprocessing,
    image_size=st.one_of(st.integers(1, 12), st.tuples(st.integers(1, 12), st.integers(1, 12))),
    resize=st.just(14),
    mean=st.tuples(*[st.sampled_from([0.1, 0.5])] * 3),
    std=st.tuples(*[st.sampled_from([0.25, 0.5])] * 3),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_each_network_finds_its_own_input(members: list[Preprocessing]) -> None:
    prepares, rows = on_one_canvas(members)
    picture = prepares(PICTURE)
    for member, row in zip(members, rows, strict=True):
        own = member(PICTURE)
        np.testing.assert_array_equal(picture[:, row : row + own.shape[1], : own.shape[2]], own)
    height = sum(part(PICTURE).shape[1] for part in dict.fromkeys(members))
    assert picture.shape == (3, height, max(member(PICTURE).shape[2] for member in members))
    assert picture.flags.c_contiguous
    again = prepares_from_dict(prepares.to_dict())
    assert again == prepares
    again.require_shape(picture.shape, "This", "do that")


def test_bicubic_is_pillows() -> None:
    """As torchvision and timm prepare pictures for weights that were trained so."""
    prepares = Preprocessing(24, 28, (0.5,) * 3, (0.5,) * 3, "bicubic")
    theirs = v2.Compose(
        [v2.Resize(28, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(24), v2.PILToTensor()]
    )
    np.testing.assert_array_equal(prepares.pixels(PICTURE), theirs(PICTURE).numpy())
    assert not np.array_equal(prepares.pixels(PICTURE), Preprocessing(24, 28, (0.5,) * 3, (0.5,) * 3).pixels(PICTURE))


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (Preprocessing(4, 4, (0.5,), (0.5,)),),
        (Preprocessing(4, 4, (0.5,), (0.5,)), Preprocessing(4, 4, (0.5,) * 3, (0.5,) * 3)),
    ],
)
def test_what_is_no_canvas_is_refused(parts: Any) -> None:
    with pytest.raises(UserError, match="two or more parts with the same number of channels"):
        Canvas(parts)
