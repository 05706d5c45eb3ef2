"""Detections drawn on images."""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from recnext.tasks.lettering import lettered

_GOLDEN = 0.618033988749895  # of a turn of the colour circle between neighbours
_OPACITY = 0.5
_SMALL = 240  # pixels of the shorter side below which a picture is drawn larger


def class_colours(num_classes: int) -> list[tuple[int, int, int]]:
    """A colour for each class, neighbours far apart on the circle."""
    colours = [colorsys.hsv_to_rgb(index * _GOLDEN % 1, 0.75, 1.0) for index in range(num_classes)]
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours]


def draw_detections(
    pixels: np.ndarray, found: dict[str, Tensor], class_names: Sequence[str], *, captions: bool = True
) -> Image.Image:
    """Boxes, masks, class names and scores over an image; small images are enlarged so that the text can be read.

    Args:
        pixels: uint8 (H, W, 3), RGB.
        found: ``boxes`` (N, 4), ``labels`` (N,) from 1, perhaps ``masks`` (N, 1, H, W) or (N, H, W), and ``scores``.
        class_names: of label 1, 2, ...
        captions: write class and score at each box.
    """
    colours = class_colours(len(class_names))
    chosen = [colours[label - 1] for label in found["labels"].tolist()]
    image = np.array(pixels)
    order = range(len(chosen))[::-1]  # the best on top
    if "masks" in found:
        masks = found["masks"].cpu().numpy().astype(bool).reshape(len(chosen), *image.shape[:2])
        for index in order:
            mixed = image[masks[index]] * (1 - _OPACITY) + np.array(chosen[index]) * _OPACITY
            image[masks[index]] = np.rint(mixed).astype(np.uint8)
    drawn = Image.fromarray(image)
    factor = max(1, round(_SMALL / min(drawn.size)))
    if factor > 1:
        drawn = drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(drawn)
    scores: list[float] = found["scores"].tolist() if "scores" in found else []
    for index in order:
        box = [factor * value for value in found["boxes"][index].tolist()]
        pen.rectangle(box, outline=chosen[index], width=2)
        if captions:
            text = class_names[int(found["labels"][index]) - 1] + (f" {scores[index]:.2f}" if scores else "")
            _caption(pen, text, at=(box[0], box[1]), width=drawn.width, colour=chosen[index])
    return drawn


def _caption(
    pen: ImageDraw.ImageDraw,
    text: str,
    *,
    at: tuple[float, float],
    width: int,
    colour: tuple[int, int, int],
) -> None:
    """Text on a plate of the class's colour, above a box or just inside it, in a picture of that width."""
    text, font = lettered(text, size=12)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    wide, high = right - left + 4, bottom - top + 4
    x = max(min(at[0], width - wide), 0)
    y = at[1] - high if at[1] >= high else at[1]
    pen.rectangle((x, y, x + wide, y + high), fill=colour)
    pen.text((x + 2 - left, y + 2 - top), text, fill="black", font=font)
