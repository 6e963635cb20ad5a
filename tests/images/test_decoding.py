"""Image files become 8-bit RGB: exact values, made without Pillow's own conversions; what cannot be read is said."""

import io
import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin, features

from ranet.images import decoding
from ranet.images.decoding import FORMATS, ImageError, read_image, to_rgb
from tests.images.pictures import MODES, TURNABLE, exif, noise, write_picture

RAMP = np.arange(2**16).reshape(256, 256)
SCALED = np.round(RAMP * 255 / 65535).astype(np.uint8)


def pixels(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The formula of compositing, in double precision."""
    share = alpha[..., None] / 255
    return np.floor(share * colour + (1 - share) * 255 + 0.5)


class TestSixteenBits:
    @pytest.mark.parametrize(("suffix", "kind"), [(".png", "<u2"), (".jp2", "<u2"), (".tif", "<u2"), (".tif", ">u2")])
    def test_a_ramp_is_scaled_and_rounded(self, suffix: str, kind: str, tmp_path: Path) -> None:
        path = tmp_path / f"ramp{suffix}"
        Image.fromarray(RAMP.astype(kind)).save(path)
        np.testing.assert_array_equal(pixels(path), grey(SCALED))

    def test_so_is_one_that_pillow_gives_32_bits(self, tmp_path: Path) -> None:
        path = tmp_path / "ramp.pgm"
        path.write_bytes(b"P5 256 256 65535\n" + RAMP.astype(">u2").tobytes())
        with Image.open(path) as image:
            assert image.mode == "I"
        np.testing.assert_array_equal(pixels(path), grey(SCALED))

    def test_colour_is_within_a_level(self, tmp_path: Path) -> None:
        # Pillow does not write it: a PNG by hand.
        rows = np.repeat(RAMP[..., None], 3, axis=2).astype(">u2")
        path = tmp_path / "ramp.png"
        path.write_bytes(png_by_hand(256, 256, 16, 2, b"".join(b"\0" + row.tobytes() for row in rows)))
        np.testing.assert_array_equal(pixels(path), rows >> 8)
        assert np.abs(pixels(path) - rows.astype(float) * 255 / 65535).max() < 1

    def test_a_transparent_value_is_white(self, tmp_path: Path) -> None:
        Image.fromarray(RAMP.astype("<u2")).save(tmp_path / "ramp.png", transparency=300)
        expected = SCALED.copy()
        expected[1, 44] = 255
        np.testing.assert_array_equal(pixels(tmp_path / "ramp.png"), grey(expected))

    @pytest.mark.parametrize("inverted", [False, True])
    def test_tiff_counts_from_white_too(self, inverted: bool, tmp_path: Path) -> None:
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[262] = 0 if inverted else 1
        Image.fromarray(RAMP.astype("<u2")).save(tmp_path / "ramp.tif", tiffinfo=tags)
        np.testing.assert_array_equal(pixels(tmp_path / "ramp.tif"), grey(255 - SCALED if inverted else SCALED))

    def test_twelve_bits_reach_white(self, tmp_path: Path) -> None:
        values = np.arange(4096).reshape(64, 64)
        pairs = values.reshape(-1, 2)
        packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
        tags = [(256, 64), (257, 64), (258, 12), (259, 1), (262, 1), (273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, 64)]
        tags.append((279, packed.size))
        directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in tags)
        content = b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + packed.astype(np.uint8).tobytes()
        (tmp_path / "ramp.tif").write_bytes(content)
        np.testing.assert_array_equal(pixels(tmp_path / "ramp.tif"), grey(np.round(values * 255 / 4095)))


def png_by_hand(width: int, height: int, bits: int, kind: int, rows: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# What a viewer does with the stored pixels so that the picture is upright.
UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored),
}


class TestOrientation:
    @pytest.mark.parametrize("orientation", UPRIGHT)
    @pytest.mark.parametrize("suffix", TURNABLE)
    def test_all_eight_are_applied(self, suffix: str, orientation: int, tmp_path: Path) -> None:
        path = tmp_path / f"turned{suffix}"
        Image.fromarray(noise(7, 5)).save(path, exif=exif(orientation), lossless=True)
        Image.fromarray(noise(7, 5)).save(tmp_path / f"stored{suffix}", lossless=True)
        stored = pixels(tmp_path / f"stored{suffix}")
        assert stored.shape == (5, 7, 3)
        np.testing.assert_array_equal(pixels(path), UPRIGHT[orientation](stored))

    def test_once_is_enough(self, tmp_path: Path) -> None:
        path = write_picture(tmp_path, "RGB as JPEG", 7, 5, orientation=6)
        np.testing.assert_array_equal(np.asarray(to_rgb(read_image(path))), pixels(path))

    def test_deep_and_transparent_pictures_are_turned_too(self, tmp_path: Path) -> None:
        for mode in ("I;16", "RGBA", "P with alphas"):
            upright = pixels(write_picture(tmp_path, mode, 7, 5))
            turned = pixels(write_picture(tmp_path, mode, 7, 5, orientation=8))
            np.testing.assert_array_equal(turned, np.rot90(upright))

    @pytest.mark.parametrize("damaged", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense"])
    def test_damaged_data_turn_nothing(self, damaged: bytes, tmp_path: Path) -> None:
        Image.fromarray(noise(7, 5)).save(tmp_path / "a.jpg", exif=damaged)
        Image.fromarray(noise(7, 5)).save(tmp_path / "b.jpg")
        np.testing.assert_array_equal(pixels(tmp_path / "a.jpg"), pixels(tmp_path / "b.jpg"))


class TestTransparency:
    def test_every_value_under_every_alpha(self, tmp_path: Path) -> None:
        alpha, value = np.meshgrid(np.arange(256), np.arange(256))
        colours = np.stack([value, 255 - value, np.full_like(value, 77)], 2)
        stored = np.concatenate([colours, alpha[..., None]], 2).astype(np.uint8)
        expected = on_white(colours, alpha)
        assert expected[0, 0].tolist() == [255] * 3  # what is hidden under alpha 0
        for suffix, options in ((".png", {}), (".webp", {"lossless": True, "exact": True}), (".tif", {})):
            Image.fromarray(stored).save(tmp_path / f"all{suffix}", **options)
            assert np.abs(pixels(tmp_path / f"all{suffix}") - expected).max() <= 1

    def test_grey_with_alpha(self, tmp_path: Path) -> None:
        stored = noise(9, 7, channels=2)
        Image.fromarray(stored).save(tmp_path / "a.png")
        expected = on_white(grey(stored[..., 0]), stored[..., 1].astype(int))
        assert np.abs(pixels(tmp_path / "a.png") - expected).max() <= 1

    @pytest.mark.parametrize("mode", ["P with a transparent colour", "P with alphas", "P in a GIF"])
    def test_palettes(self, mode: str, tmp_path: Path) -> None:
        path = write_picture(tmp_path, mode, 40, 30)
        with Image.open(path) as image:
            index = np.asarray(image)
            palette = np.array(image.getpalette()).reshape(-1, 3)
        alphas = np.full(256, 255)
        if mode == "P with alphas":
            alphas[:64] = range(0, 256, 4)
        else:
            alphas[3] = 0
        assert (alphas[index] < 255).any()
        assert np.abs(pixels(path) - on_white(palette[index], alphas[index])).max() <= 1

    @pytest.mark.parametrize(("mode", "key"), [("L", 99), ("RGB", (10, 20, 30))])
    def test_a_transparent_value_without_alpha(self, mode: str, key: Any, tmp_path: Path) -> None:
        image = Image.fromarray(noise(5, 4)).convert(mode)
        image.putpixel((2, 1), key)
        image.save(tmp_path / "a.png", transparency=key)
        expected = np.asarray(image.convert("RGB")).copy()
        expected[1, 2] = 255
        np.testing.assert_array_equal(pixels(tmp_path / "a.png"), expected)

    def test_premultiplied_modes(self) -> None:
        colour = Image.new("RGBA", (1, 1), (200, 100, 50, 128))
        for image, expected in ((colour.convert("RGBa"), [227, 177, 152]), (colour.convert("LA").convert("La"), None)):
            seen = np.asarray(to_rgb(image))[0, 0]
            luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
            wanted = expected or [luma * 128 / 255 + 127] * 3
            assert np.abs(seen - wanted).max() <= 2  # they were rounded when they were multiplied


class TestAsStored:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif", ".webp"])
    def test_eight_bit_rgb_is_not_touched(self, suffix: str, tmp_path: Path) -> None:
        Image.fromarray(noise(33, 21)).save(tmp_path / f"a{suffix}", lossless=True)
        np.testing.assert_array_equal(pixels(tmp_path / f"a{suffix}"), noise(33, 21))

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB as JPEG", "RGB as WebP", "CMYK", "YCbCr", "LAB"])
    def test_other_opaque_modes_are_pillows(self, mode: str, tmp_path: Path) -> None:
        path = write_picture(tmp_path, mode, 33, 21)
        with Image.open(path) as image:
            np.testing.assert_array_equal(pixels(path), np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
    def test_the_first_of_several_frames(self, suffix: str, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
        frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], lossless=True)
        assert pixels(tmp_path / f"a{suffix}")[0, 0].tolist() == [255, 0, 0]

    def test_the_content_says_the_format(self, tmp_path: Path) -> None:
        for name in FORMATS:
            image = Image.fromarray(noise(16, 16))
            options = {"lossless": True} if name == "WEBP" else {}
            image.save(tmp_path / "picture", format=name, **options)
            (tmp_path / "picture").rename(tmp_path / "picture.eps")
            assert pixels(tmp_path / "picture.eps").shape == (16, 16, 3)
            (tmp_path / "picture.eps").rename(tmp_path / "picture.jpg")
            assert pixels(tmp_path / "picture.jpg").shape == (16, 16, 3)

    def test_links_to_files_are_files(self, tmp_path: Path) -> None:
        path = write_picture(tmp_path, "RGB", 5, 4)
        (tmp_path / "link.png").symlink_to(path)
        np.testing.assert_array_equal(pixels(tmp_path / "link.png"), pixels(path))


def bomb(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def refused(path: Path) -> str:
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert str(error.value) == f"The image {error.value.what}."
    assert "\n" not in str(error.value)
    return error.value.what


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (saved(Image.fromarray(noise(4, 4)[..., 0].astype(np.float32)), "TIFF"), "holds floating-point values"),
            (b"Pf 1 1 -1.0\n\0\0\0\0", "holds floating-point values, whose range is not known; save it with 8 or 16"),
            (saved(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"), "holds 32-bit or signed integers"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n", "is in the PostScript format"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is in the HEIC format, which is not read; save it as JPEG or PNG"),
            (b"\xff\x0a1234567890", "is in the JPEG XL format"),
            (b"%PDF-1.7\n", "is in the PDF format"),
            (b"8BPS\0\1", "is in the Photoshop format"),
            (b'<?xml version="1.0"?>\n<svg/>', "is in the SVG format"),
            (b"hello", "cannot be read as an image (it is empty, damaged, or of no known format)"),
            (b"", "cannot be read as an image (it is empty, damaged, or of no known format)"),
            (saved(Image.fromarray(noise(64, 64)), "JPEG")[:-700], "cannot be read as an image (image file is truncat"),
            (saved(Image.fromarray(noise(64, 64)), "PNG")[:6000], "cannot be read as an image (image file is truncat"),
            (saved(Image.fromarray(noise(64, 64)), "WEBP")[:-700], "cannot be read as an image"),
            (saved(Image.fromarray(noise(64, 64)), "TIFF")[:6000], "cannot be read as an image"),
            (bomb(8200, 8200), "is 8,200 x 8,200 pixels, more than the limit of 67,108,864"),
            (bomb(1, 101), "is 1 x 101 pixels, too long and thin for a central square"),
        ],
    )
    def test_in_a_sentence(self, content: bytes, message: str, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(content)
        assert refused(tmp_path / "a.png").startswith(message)

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_bombs_are_not_decoded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def decode(self: PngImagePlugin.PngImageFile) -> None:
            raise AssertionError("decoded")

        monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decode)
        for side, message in (
            (8200, "is 8,200 x 8,200"),
            (10_000, "is 10,000 x"),
            (20_000, "has more than 67,108,864"),
        ):
            header = bomb(16, 16)
            ihdr = struct.pack(">II", side, side) + header[24:29]
            content = header[:16] + ihdr + struct.pack(">I", zlib.crc32(b"IHDR" + ihdr)) + header[33:]
            (tmp_path / "bomb.png").write_bytes(content)
            assert refused(tmp_path / "bomb.png").startswith(message)

    def test_a_comment_that_unpacks_to_gigabytes(self, tmp_path: Path) -> None:
        comment = PngImagePlugin.PngInfo()
        comment.add_text("bomb", "0" * 2**27, zip=True)
        Image.new("1", (4, 4)).save(tmp_path / "a.png", pnginfo=comment)
        assert refused(tmp_path / "a.png").startswith("cannot be read as an image")

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        assert refused(tmp_path / "a.png") == "cannot be read as an image (No such file or directory)"
        (tmp_path / "a.png").symlink_to("a.png")
        assert refused(tmp_path / "a.png").startswith("cannot be read as an image (Too many levels of")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
    def test_pipes_devices_sockets_and_folders_are_not_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        os.mkfifo("pipe.png")
        Path("folder.png").mkdir()
        Path("zero.png").symlink_to("/dev/zero")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket.png")

            def opened(self: Path, *arguments: Any) -> None:
                raise AssertionError(f"{self} was opened")

            with monkeypatch.context() as patch:
                patch.setattr(Path, "open", opened)
                for name in ("pipe.png", "folder.png", "zero.png", "socket.png"):
                    assert refused(Path(name)) == "is not a regular file"

    def test_a_format_that_this_pillow_lacks_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf")
        if features.check("avif"):
            assert refused(tmp_path / "a.jpg").startswith("cannot be read as an image")
        monkeypatch.setattr(decoding.features, "check", lambda _: False)
        assert refused(tmp_path / "a.jpg").startswith(
            "is in the AVIF format, which is not read by the installed Pillow"
        )

    def test_values_beyond_sixteen_bits(self) -> None:
        for value in (-1, 65536):
            with pytest.raises(ImageError, match=f"holds values from {value} to {value}, which 16 bits do not"):
                to_rgb(Image.new("I", (2, 2), value))
        with pytest.raises(ImageError, match="is empty"):
            to_rgb(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_mode_are_read(mode: str, tmp_path: Path) -> None:
    assert pixels(write_picture(tmp_path, mode, 31, 23)).shape == (23, 31, 3)
