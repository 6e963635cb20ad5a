"""Text in figures: fonts that have its characters, and escapes for characters that no installed font has."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

#: The font of all figures; it has Latin, Greek, Cyrillic, Hebrew, Arabic and many symbols.
FIRST = "DejaVu Sans"
# Prefixes of fonts for formulas, whose characters have other codes, and of fonts that draw boxes.
_NOT_FOR_NAMES = ("cm", "STIX", "Last Resort", "DejaVu Math")


class Drawable(NamedTuple):
    """A str that the fonts of this machine can draw.

    Attributes:
        text: the str, with Python's escapes for characters that no font has.
        fonts: names of the fonts that together have all characters, in the order of their use.
        whole: whether the text is unchanged.
    """

    text: str
    fonts: tuple[str, ...]
    whole: bool


def drawable(text: str) -> Drawable:
    r"""Return the text in a form that the fonts of this machine can draw.

    Bytes of a file name that are not UTF-8 are shown as Python's byte escapes.

    Example:
        >>> drawable("café")
        Drawable(text='café', fonts=('DejaVu Sans',), whole=True)
        >>> drawable("caf\udce9\t").text
        'caf\\xe9\\t'
    """
    fonts, shown = [FIRST], []
    for character in text:
        if character == "\n" or any(ord(character) in _characters(findfont(font)) for font in fonts):
            shown.append(character)
        elif (font := _font_with(character)) is not None:
            fonts.append(font)
            shown.append(character)
        else:
            shown.append(_escaped(character))
    return Drawable("".join(shown), tuple(fonts), "".join(shown) == text)


def make_drawable(figure: Figure) -> None:
    """Give every text of a figure fonts that have its characters, and escape characters that no font has."""
    for artist in figure.findobj(Text):
        assert isinstance(artist, Text)
        text = artist.get_text()
        if text.isascii() and text.replace("\n", "").isprintable():
            continue
        found = drawable(text)
        if not found.whole:
            artist.set_text(found.text)
        if len(found.fonts) > 1:
            artist.set_fontfamily(list(found.fonts))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's codes for bytes of a file name that are not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


@cache
def _font_with(character: str) -> str | None:
    """Return the name of an installed font that has the character; None if there is none."""
    if not character.isprintable():
        return None
    usable = [font for font in fontManager.ttflist if not font.name.startswith(_NOT_FOR_NAMES)]
    found = (font.name for font in sorted(usable, key=_preference) if ord(character) in _characters(font.fname))
    return next(found, None)


def _preference(font: FontEntry) -> tuple[bool, bool, bool, str]:
    """Return a sort key that puts upright sans-serif fonts of regular weight first."""
    return font.style != "normal", font.weight not in (400, "normal", "regular"), "Sans" not in font.name, font.name


@cache
def _characters(path: str) -> frozenset[int]:
    """Return the codes of the characters that a font file has an outline of; empty if matplotlib cannot read it."""
    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (RuntimeError, OSError):
        return frozenset()
