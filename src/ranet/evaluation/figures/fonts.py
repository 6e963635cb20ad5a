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
    """A str that the fonts of this machine can draw."""

    text: str  # with Python's escapes for characters that no font has
    fonts: tuple[str, ...]  # that together have all characters, in the order of their use
    whole: bool  # whether the text is unchanged


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
        elif 0xDC80 <= ord(character) <= 0xDCFF:  # Python's codes for bytes of a file name that are not UTF-8
            shown.append(f"\\x{ord(character) - 0xDC00:02x}")
        else:
            shown.append(character.encode("unicode_escape").decode())
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
