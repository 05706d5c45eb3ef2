"""Names in drawn pictures, in a font that has their characters."""

from collections.abc import Iterator
from functools import cache
from typing import Union

from PIL import ImageFont

from recnext.text import printable

Font = Union[ImageFont.ImageFont, ImageFont.FreeTypeFont]

# of systems that have them: Linux, macOS, Windows
_OTHERS = (
    *("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "wqy-zenhei.ttc", "ipaexg.ttf"),
    *("DroidSansFallbackFull.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf"),
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "arial.ttf"),
)
_NO_CHARACTER = "\U0010fffe"  # every font draws its box for it


@cache
def lettered(text: str, *, size: int) -> tuple[str, Font]:
    """A name as it can be drawn, and the font to draw it with.

    Args:
        text: of the name; a character that no font has becomes its number, such as U+65E5.
        size: of the font in pixels.
    """
    text = printable(text).replace("\n", " ")
    lacking: set[str] = set()
    for font in _fonts(size):
        lacks = {one for one in set(text) if _is_box(font, one)}
        if not lacks:
            return text, font
        lacking = lacking or lacks
    return "".join(f"U+{ord(one):04X}" if one in lacking else one for one in text), ImageFont.load_default(size=size)


def _fonts(size: int) -> Iterator[Font]:
    yield ImageFont.load_default(size=size)
    for name in _OTHERS:
        font = _font(name, size)
        if font is not None:
            yield font


@cache
def _font(name: str, size: int) -> Union[Font, None]:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _is_box(font: Font, character: str) -> bool:
    """Whether a font draws a box in place of a character."""
    if character.isspace():
        return False
    box, drawn = (bytes(font.getmask(one)) for one in (_NO_CHARACTER, character))
    return drawn == box
