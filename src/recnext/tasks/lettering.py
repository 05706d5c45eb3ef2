"""Names in drawn pictures, in a font that has their characters."""

import unicodedata
from functools import cache, lru_cache
from itertools import chain
from typing import Union

from PIL import ImageFont

from recnext.text import printable

Font = Union[ImageFont.ImageFont, ImageFont.FreeTypeFont]

FONTS = (
    *("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "wqy-zenhei.ttc", "ipaexg.ttf"),
    *("DroidSansFallbackFull.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf"),
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "arial.ttf"),
)
"""Of systems that have them: Linux, macOS, Windows."""
_NO_CHARACTER = "\U0010fffe"  # every font draws its box for it


@lru_cache(maxsize=4096)
def lettered(text: str, *, size: int, fonts: tuple[str, ...] = FONTS) -> tuple[str, Font]:
    """A name as it can be drawn, and the font to draw it with.

    Args:
        text: of the name; a character that no font has loses its accent, or becomes its number, such as U+65E5.
        size: of the font in pixels.
        fonts: files to look for where Pillow's own font lacks a character, which has ASCII alone.
    """
    text, plain = printable(text).replace("\n", " "), _plain(size)
    for font in chain((plain,), (_font(name, size) for name in fonts)):
        if font is not None and not any(_is_box(font, one) for one in set(text)):
            return text, font
    return "".join(_spelled(plain, one) for one in text), plain


def _spelled(font: Font, character: str) -> str:
    letters = "".join(one for one in unicodedata.normalize("NFKD", character) if not unicodedata.combining(one))
    return f"U+{ord(character):04X}" if not letters or any(_is_box(font, one) for one in letters) else letters


@cache
def _plain(size: int) -> Font:
    return ImageFont.load_default(size=size)


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
