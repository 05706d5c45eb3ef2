"""What every picture is drawn with, and the confusion matrix. It needs matplotlib (the `train` extra)."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recnext.errors import MissingExtraError
from recnext.files import MARK, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_ASIAN = (
    *(
        "Noto Sans CJK JP",
        "Noto Sans CJK SC",
        "Source Han Sans",
        "WenQuanYi Zen Hei",
        "IPAexGothic",
        "Droid Sans Fallback",
    ),
    *("Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS"),
)

PALETTE = ("#1f6f8b", "#b0563b", "#63a375", "#7b5ea7", "#c98a2b", "#4d4d4d")

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": False,
    "legend.frameon": False,
    "savefig.dpi": 120,
}


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def require_drawing(purpose: str) -> None:
    """Checks for matplotlib before the work begins.

    Raises:
        MissingExtraError: it is not installed.
    """
    if not can_draw():
        raise MissingExtraError("matplotlib", "train", purpose)


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator["Figure"]:
    """Gives an empty figure in our style, in inches, and saves it to `path`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_drawing(f"drawing {path.name}")
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "font.family": list(_families())}):
        drawing = Figure(figsize=(width, height), layout="constrained")
        yield drawing
        key = {"png": "Software", "pdf": "Creator", "svg": "Creator"}.get(kind := path.suffix[1:].lower())
        drawing.savefig(content := BytesIO(), format=kind or None, metadata={key: MARK} if key else None)
    write_atomically(path, content.getvalue())


def caption(drawing: Any, text: str) -> None:
    """Writes the setting of a picture small and grey below it."""
    drawing.supxlabel(drawn(textwrap.fill(text, int(13 * drawing.get_figwidth()))), fontsize=7, color="#666666")


def drawn(text: str) -> str:
    """A name as matplotlib may write it: no formulas, no control characters, and U+65E5 where no font has a glyph."""
    known = _glyphs()
    shown = (one if ord(one) in known or one == "\n" else f"U+{ord(one):04X}" for one in text)
    return "".join(shown).replace("$", r"\$")


@cache
def _glyphs() -> frozenset[int]:
    """The characters that the fonts of `_families` have."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(
        code for name in _families() for code in get_font(findfont(FontProperties(family=name))).get_charmap()
    )


@cache
def _families() -> tuple[str, ...]:
    """The fonts to write with, the first one for all that it has."""
    from matplotlib.font_manager import fontManager

    installed = {entry.name for entry in fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in _ASIAN if name in installed))
