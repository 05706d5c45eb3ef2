"""What every picture is drawn with, and the confusion matrix. It needs matplotlib (the `train` extra)."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from recnext.errors import MissingExtraError
from recnext.files import MARK, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELLED = 40  # more classes than this are drawn without names
_COUNTED = 20  # more classes than this are drawn without numbers

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


def draw_confusion(path: Path, confusion: Tensor, class_names: Sequence[str]) -> None:
    """Draws a confusion matrix, each row in shares of its class, with counts where they can be read.

    Args:
        path: of the PNG.
        confusion: int64 (classes, classes), rows the truth.
        class_names: in the order of the rows.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    count = len(class_names)
    images = int(confusion.sum())
    shares = confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    side = min(max(4.2, 0.36 * count + 1.6), 14)
    with figure(path, side + 0.7, side) as drawing:
        axes = drawing.add_subplot()
        image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
        correct = 100 * int(confusion.diagonal().sum()) / max(images, 1)
        axes.set_title(f"{correct:.2f}% of {images} images are right")
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        for spine in axes.spines.values():
            spine.set_visible(False)
        if count <= _LABELLED:
            names = [drawn(name) for name in class_names]
            axes.set_xticks(range(count), names, rotation=0 if max(map(len, names)) <= 3 else 90)
            axes.set_yticks(range(count), names)
            axes.tick_params(length=0)
        if count <= _COUNTED:
            for row, column in confusion.nonzero().tolist():
                dark = shares[row, column] > 0.5
                wrong = row != column
                axes.text(
                    column,
                    row,
                    str(int(confusion[row, column])),
                    ha="center",
                    va="center",
                    color="white" if dark else ("#c0392b" if wrong else "black"),
                    fontweight="bold" if wrong else "normal",
                )
        drawing.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
