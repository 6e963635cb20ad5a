"""Names of any script in figures: no character is drawn as an empty box, and none stops a figure."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from ranet.calibration import ExitPolicy, ExitScores
from ranet.evaluation.curves.anytime import AnytimeCurve
from ranet.evaluation.figures import fonts
from ranet.evaluation.figures.curves import anytime_figure
from ranet.evaluation.figures.fonts import drawable
from ranet.evaluation.figures.gallery import gallery_figure
from ranet.evaluation.figures.style import save_figure

BYTES = b"caf\xe9".decode("utf-8", "surrogateescape")
NAMES = ["犬", "🐶 dog", "كلب", BYTES, "a$b$ \\frac$", "tab\there", "line\nbreak", "हिन्दी", "собака", "plain"]
# A plane of Unicode that is for private use: no font has these, but the one that a test makes.
SPECIAL = "\U000f1234\U000f1235"


@pytest.fixture
def no_other_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with the fonts that come with matplotlib alone."""
    own = [font for font in fontManager.ttflist if "matplotlib" in font.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    fonts._font_with.cache_clear()
    yield
    fonts._font_with.cache_clear()


def font_with(characters: str, path: Path) -> None:
    """A font whose characters are squares."""
    names = [".notdef", *(f"glyph{ord(character)}" for character in characters)]
    pen = TTGlyphPen(None)
    for place, draw in (((0, 0), pen.moveTo), ((500, 0), pen.lineTo), ((500, 500), pen.lineTo), ((0, 500), pen.lineTo)):
        draw(place)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(character): f"glyph{ord(character)}" for character in characters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def texts(figure: Figure) -> list[str]:
    return [artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text)]


def saved(figure: Figure, path: Path) -> None:
    """Write a figure, and fail for the warning that matplotlib has for characters that no font has."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, path)
    assert path.stat().st_size > 1000


def gallery(names: list[str]) -> Figure:
    """One image of each class, all right, at one exit; and one of the first class that is taken for the second."""
    labels = np.array([*range(len(names)), 0])
    prediction = np.array([[*range(len(names)), 1]])
    scores = ExitScores(np.full((1, len(labels)), 0.9, np.float32), prediction, prediction == labels, labels)
    images = np.zeros((len(labels), 4, 4), np.uint8)
    return gallery_figure(ExitPolicy(()), scores, images, names, columns=len(labels), title=f"Images of {names[0]}")


@pytest.mark.usefixtures("no_other_fonts")
def test_a_gallery_of_any_names_has_no_empty_boxes(tmp_path: Path) -> None:
    figure = gallery(NAMES)
    saved(figure, tmp_path / "gallery.png")
    under = {text.split("\n")[0] for text in texts(figure)}
    assert {r"0 \u72ac", "كلب", r"3 caf\xe9", r"a$b$ \frac$", r"5 tab\there", "собака", "plain"} <= under
    assert r"Images of \u72ac" in texts(figure)


def test_a_font_that_has_the_characters_is_found_and_used(tmp_path: Path, no_other_fonts: None) -> None:
    assert drawable(SPECIAL).text == r"\U000f1234\U000f1235"
    font_with("犬🐶", tmp_path / "squares.ttf")
    fontManager.addfont(tmp_path / "squares.ttf")
    fonts._font_with.cache_clear()
    assert drawable("犬 dog 🐶") == ("犬 dog 🐶", ("DejaVu Sans", "Squares"), True)
    figure = gallery(["犬", "🐶 dog"])
    saved(figure, tmp_path / "gallery.png")
    assert any(text.startswith("犬\n→ 🐶 dog") for text in texts(figure))
    assert not any("\\u" in text for text in texts(figure))


@pytest.mark.usefixtures("no_other_fonts")
def test_titles_legends_and_units_of_any_script_are_drawn(tmp_path: Path) -> None:
    numbers = np.array([0.5, 0.75])
    curve = AnytimeCurve(np.array([1.0, 2.0]), numbers, numbers, numbers, numbers, images=10)
    figure = anytime_figure(curve, "元$", title=f"A network on 写真 {BYTES}", name="ours, 犬 $x$")
    saved(figure, tmp_path / "anytime.png")
    shown = " ".join(texts(figure))
    for text in (r"\u5199\u771f caf\xe9", r"ours, \u72ac $x$", r"[\u5143$]"):
        assert text in shown
