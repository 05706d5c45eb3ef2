"""Synthetic scenes with exact annotations: textured shapes that hide one another on textured backgrounds.

A class has a form and a texture of its own; colours, sizes, turns and places are random. Every scene is a function
of (seed, index) alone. `shape_folders` writes them in the layouts of COCO and ADE20K.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from recnext.errors import RecNextError

_TRIES = 20  # to place a shape without hiding another too much
_VISIBLE = 0.4  # share of each shape that the later ones leave visible
_SMALLEST = 16  # pixels a shape shows at least


@dataclass(frozen=True, eq=False)
class Instance:
    """One annotated thing, or a crowd of them.

    Attributes:
        label: index into `CLASS_NAMES`.
        mask: bool (H, W), the visible pixels.
        crowd: many shapes of a class under one mask.
    """

    label: int
    mask: np.ndarray
    crowd: bool = False

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Smallest (x1, y1, x2, y2) in pixels around the mask; x2 and y2 are exclusive."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def area(self) -> int:
        """Visible pixels."""
        return int(self.mask.sum())


@dataclass(frozen=True, eq=False)
class Scene:
    """A drawn image and what is in it.

    Attributes:
        image: uint8 (H, W, 3).
        instances: in the order of drawing, so later ones hide earlier ones.
    """

    image: np.ndarray
    instances: tuple[Instance, ...]

    @property
    def semantic(self) -> np.ndarray:
        """uint8 (H, W): 0 background, else 1 + label."""
        labels = np.zeros(self.image.shape[:2], dtype=np.uint8)
        for instance in self.instances:
            labels[instance.mask] = instance.label + 1
        return labels


def _disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u**2 + v**2 <= 1


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(abs(u), abs(v)) <= 0.85


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (v <= 0.6) & (1.8 * abs(u) <= v + 1.1)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    radius = u**2 + v**2
    return (radius <= 1) & (radius >= 0.22)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    near, far = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
    return (near <= 0.34) & (far <= 1)


def _stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(1.1 * x) > 0


def _checks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.floor(x / 4) + np.floor(y / 4)) % 2 == 0


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x % 6 - 3) ** 2 + (y % 6 - 3) ** 2 <= 4


def _rays(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(12 * np.arctan2(y, x)) > 0


def _plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros(x.shape, dtype=bool)


_Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]

# name -> form over coordinates in units of the radius, texture over coordinates in pixels; both turn with the shape
_CLASSES: dict[str, tuple[_Pattern, _Pattern]] = {
    "disc": (_disc, _stripes),
    "square": (_square, _checks),
    "triangle": (_triangle, _dots),
    "ring": (_ring, _rays),
    "cross": (_cross, _plain),
}

CLASS_NAMES = tuple(_CLASSES)


def draw_scene(
    index: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (128, 128),
    shapes: tuple[int, int] = (2, 6),
    crowd: bool = False,
) -> Scene:
    """Draws a scene; the same arguments always give the same one.

    Args:
        index: of the scene.
        seed: of the collection.
        size: height and width in pixels, at least 32.
        shapes: fewest and most shapes; (0, 0) gives an empty scene. Fewer come out where there is no room.
        crowd: put a crowd (5 to 8 small shapes of a class, one annotation) into it first.

    Raises:
        RecNextError: a size or number that cannot be drawn.
    """
    if min(size) < 32:
        raise RecNextError(f"size={size}: scenes have at least 32 pixels a side")
    if not 0 <= shapes[0] <= shapes[1]:
        raise RecNextError(f"shapes={shapes}: expected (fewest, most) with 0 <= fewest <= most")
    return _Painter(np.random.default_rng((seed, index)), size).scene(shapes, crowd=crowd)


class _Painter:
    """Draws onto one canvas, keeping what every shape still shows."""

    def __init__(self, random: np.random.Generator, size: tuple[int, int]) -> None:
        self.random = random
        self.size = size
        self.canvas = _background(random, size)
        self.rows, self.columns = np.mgrid[: size[0], : size[1]] + 0.5
        self.labels: list[int] = []
        self.masks: list[np.ndarray] = []
        self.whole: list[int] = []  # pixels of each shape before others hid it
        self.crowds: list[bool] = []

    def scene(self, shapes: tuple[int, int], *, crowd: bool) -> Scene:
        if crowd:
            self.add_crowd()
        for _ in range(self.random.integers(shapes[0], shapes[1] + 1)):
            self.add_shape()
        grain = self.random.normal(0, 4, self.canvas.shape)
        image = np.clip(np.rint(self.canvas + grain), 0, 255).astype(np.uint8)
        found = zip(self.labels, self.masks, self.crowds, strict=True)
        return Scene(image, tuple(Instance(label, mask, crowd) for label, mask, crowd in found))

    def add_shape(self) -> None:
        label = int(self.random.integers(len(CLASS_NAMES)))
        for _ in range(_TRIES):
            radius = self.random.uniform(0.1, 0.26) * min(self.size)
            mask, paint = self.draw(label, radius, self.anywhere(margin=0.5 * radius))
            if mask.sum() >= _SMALLEST and self.leaves_visible(mask):
                self.cover(mask, paint)
                self.labels.append(label)
                self.masks.append(mask)
                self.whole.append(int(mask.sum()))
                self.crowds.append(False)
                return

    def add_crowd(self) -> None:
        label = int(self.random.integers(len(CLASS_NAMES)))
        spread = 0.22 * min(self.size)
        middle = self.anywhere(margin=spread)
        together = np.zeros(self.size, dtype=bool)
        for _ in range(self.random.integers(5, 9)):
            centre = tuple(np.clip(middle + self.random.uniform(-spread, spread, 2), 4, np.array(self.size) - 4))
            mask, paint = self.draw(label, max(0.06 * min(self.size), 4.0), centre)
            self.cover(mask, paint)
            together |= mask
        self.labels.append(label)
        self.masks.append(together)
        self.whole.append(int(together.sum()))
        self.crowds.append(True)

    def anywhere(self, *, margin: float) -> Any:
        return self.random.uniform(margin, np.array(self.size) - margin)

    def draw(self, label: int, radius: float, centre: Any) -> tuple[np.ndarray, np.ndarray]:
        """The mask of a new shape, and its colours at every pixel of the canvas."""
        form, texture = _CLASSES[CLASS_NAMES[label]]
        turn = self.random.uniform(0, 2 * np.pi)
        down, right = self.rows - centre[0], self.columns - centre[1]
        x = np.cos(turn) * right + np.sin(turn) * down
        y = np.cos(turn) * down - np.sin(turn) * right
        light, dark = self.random.uniform(150, 250, 3), self.random.uniform(5, 105, 3)
        if self.random.random() < 0.5:
            light, dark = dark, light
        shade = 1 + 0.15 * (right + down)[..., None] / (2 * radius)
        return form(x / radius, y / radius), np.where(texture(x, y)[..., None], light, dark) * shade

    def leaves_visible(self, mask: np.ndarray) -> bool:
        return all(
            (shown & ~mask).sum() >= max(_VISIBLE * whole, _SMALLEST)
            for shown, whole in zip(self.masks, self.whole, strict=True)
        )

    def cover(self, mask: np.ndarray, paint: np.ndarray) -> None:
        self.canvas[mask] = paint[mask]
        for shown in self.masks:
            shown &= ~mask


def _background(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """float64 (H, W, 3): two muted colours mixed by clouds of two sizes."""
    height, width = size
    clouds = np.zeros(size)
    for cells, weight in ((4, 0.7), (16, 0.3)):
        noise = Image.fromarray(random.uniform(0, 1, (cells, cells)).astype(np.float32))
        clouds += weight * np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC))
    first, second = random.uniform(70, 190, 3), random.uniform(70, 190, 3)
    share = np.clip(clouds, 0, 1)[..., None]
    return first * share + second * (1 - share)
