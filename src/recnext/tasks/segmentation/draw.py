"""Colours of classes and drawing with them."""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Optional

import numpy as np
from PIL import Image, ImageDraw

from recnext.tasks.lettering import lettered

_LEVELS = (20, 70, 115, 160, 205, 250)  # of red, green and blue
_FIRST = (70, 115, 205)
_GREY = 60  # colours whose channels differ by less are left out
_LEGEND_CLASSES = 24  # named in a legend, the largest ones


def palette(num_classes: int) -> np.ndarray:
    """Colours of the classes, the first ones the farthest apart; they come again where there are too many classes.

    Returns:
        uint8 (num_classes, 3).
    """
    colours = _colours()
    return colours[np.arange(num_classes) % len(colours)]


@cache
def _colours() -> np.ndarray:
    """Each colour the one farthest from all before it."""
    candidates = np.array([colour for colour in product(_LEVELS, repeat=3) if max(colour) - min(colour) >= _GREY])
    order = [int(np.flatnonzero((candidates == _FIRST).all(1))[0])]
    distance = np.full(len(candidates), np.inf)
    while len(order) < len(candidates):
        distance = np.minimum(distance, np.square(candidates - candidates[order[-1]]).sum(1))
        order.append(int(distance.argmax()))
    return candidates[order].astype(np.uint8)


def colour_mask(labels: np.ndarray, num_classes: int) -> Image.Image:
    """A palette image: its pixels are the class numbers, its colours the palette's.

    Args:
        labels: uint8 (H, W), classes or 255.
        num_classes: of the palette.
    """
    table = np.zeros((256, 3), dtype=np.uint8)
    table[:num_classes] = palette(num_classes)
    image = Image.fromarray(labels)
    image.putpalette(table.tobytes())
    return image


def overlay(image: np.ndarray, labels: np.ndarray, *, num_classes: int, opacity: float = 0.55) -> np.ndarray:
    """The classes' colours over an image, with the borders between classes drawn.

    Args:
        image: uint8 (H, W, 3).
        labels: uint8 (H, W); pixels of 255 keep the image.
        num_classes: of the palette.
        opacity: of the colours, 0 to 1.

    Returns:
        uint8 (H, W, 3).
    """
    table = np.zeros((256, 3), dtype=np.float32)
    table[:num_classes] = palette(num_classes)
    colours = table[labels]
    drawn = image * (1 - opacity) + colours * opacity
    drawn[labels == 255] = image[labels == 255]
    border = np.zeros(labels.shape, dtype=bool)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    drawn[border] = colours[border]
    return np.rint(drawn).astype(np.uint8)


def legend(
    labels: Sequence[int], shares: Optional[Sequence[float]], class_names: Sequence[str], *, height: int
) -> Image.Image:
    """Swatches with the names of classes and their shares of the image, on white.

    Args:
        labels: classes to show, in order; only the first two dozen are.
        shares: of the image, 0 to 1, one for each; None leaves them out.
        class_names: of all classes.
        height: of the picture in pixels, at least; it grows with the number of classes.
    """
    texts = [class_names[label] for label in labels]
    if shares is not None:
        texts = [f"{text}  {100 * share:.1f}%" for text, share in zip(texts, shares, strict=True)]
    rows = [(label, *lettered(text, size=13)) for label, text in zip(labels, texts, strict=True)][:_LEGEND_CLASSES]
    line = 20
    width = 34 + max((int(font.getlength(text)) for _, text, font in rows), default=0) + 8
    image = Image.new("RGB", (width, max(height, line * len(rows) + 8)), "white")
    draw = ImageDraw.Draw(image)
    colours = palette(len(class_names))
    for row, (label, text, font) in enumerate(rows):
        top = 6 + row * line
        draw.rectangle((8, top, 26, top + 13), fill=tuple(colours[label].tolist()))
        draw.text((34, top - 1), text, fill="black", font=font)
    return image


def draw_prediction(image: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Image.Image:
    """An overlay with its legend, the largest classes first.

    Args:
        image: uint8 (H, W, 3).
        labels: uint8 (H, W).
        class_names: of all classes.
    """
    drawn = Image.fromarray(overlay(image, labels, num_classes=len(class_names)))
    found = class_shares(labels, len(class_names))
    side = legend([label for label, _ in found], [share for _, share in found], class_names, height=drawn.height)
    sheet = Image.new("RGB", (drawn.width + side.width, side.height), "white")
    sheet.paste(drawn, (0, 0))
    sheet.paste(side, (drawn.width, 0))
    return sheet


def class_shares(labels: np.ndarray, num_classes: int) -> list[tuple[int, float]]:
    """Classes that occur and their shares of the pixels, the largest first."""
    counts = np.bincount(labels.ravel(), minlength=256)[:num_classes]
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda label: (-counts[label], label))
    return [(label, float(counts[label] / labels.size)) for label in order]
