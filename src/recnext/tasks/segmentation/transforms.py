"""Resizing, cropping and colour changes of images with label maps, on torchvision's transforms.v2.

The rules are those of the published ADE20K recipe: bilinear resizing without antialiasing, as OpenCV does it, and
nearest neighbour for labels. Everything stays uint8; the device normalises whole batches.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from .losses import IGNORE

DIVISOR = 32  # evaluation sizes are multiples of it
LONG_SIDE = 4  # times the short side at most: (2048, 512) as published
_CROP_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class SegmentationPreparation:
    """How images become a segmenter's input.

    Args:
        image_size: of training crops; in evaluation the shorter side, while the longer one is at most four times it.
        mean: of pixels in 0..1.
        std: of pixels in 0..1.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def evaluation_size(self, height: int, width: int) -> tuple[int, int]:
        """The size at which an image is segmented: scaled with its ratio kept, then up to multiples of 32."""
        height, width = scaled_size(height, width, self.image_size)
        return math.ceil(height / DIVISOR) * DIVISOR, math.ceil(width / DIVISOR) * DIVISOR

    def evaluation_transform(self) -> "ResizeImage":
        """Resizes the image, leaves the labels as they are."""
        return ResizeImage(self)

    def training_transform(
        self,
        *,
        scale: tuple[float, float] = (0.5, 2.0),
        cat_max_ratio: float = 0.75,
        hflip: float = 0.5,
        photometric: bool = True,
    ) -> v2.Transform:
        """Random scale, crop, flip and colours; crops of `image_size` squared.

        Args:
            scale: range of the random factor on the evaluation scale.
            cat_max_ratio: largest share of a crop's labelled pixels that one class may take, in ten tries; 1 takes
                the first crop.
            hflip: probability of a horizontal flip; 0 where left and right differ.
            photometric: change brightness, contrast, saturation and hue.
        """
        size = self.image_size
        parts: list[v2.Transform] = [
            RandomScale(size, scale),
            LabelledCrop(size, cat_max_ratio),
            v2.RandomHorizontalFlip(hflip),
        ]
        if photometric:
            parts.append(PhotometricDistortion())
        parts.append(PadTo(size, tuple(round(255 * value) for value in self.mean)))
        return v2.Compose(parts)


def scaled_size(height: int, width: int, short_side: float) -> tuple[int, int]:
    """Scaled by the largest factor that keeps the shorter side within `short_side`, the longer within four times it."""
    factor = min(LONG_SIDE * short_side / max(height, width), short_side / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Images bilinearly, masks by nearest neighbour."""
    return F.resize(image, list(size), antialias=False)


class ResizeImage:
    """Evaluation: the image scaled, then stretched to multiples of 32; labels untouched."""

    def __init__(self, preparation: SegmentationPreparation) -> None:
        self.preparation = preparation

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        height, width = image.shape[-2:]
        image = resize(image, scaled_size(height, width, self.preparation.image_size))
        return resize(image, self.preparation.evaluation_size(height, width)), labels


class RandomScale(v2.Transform):
    """Resizes as in evaluation, for a short side times a random factor."""

    def __init__(self, short_side: int, factors: tuple[float, float]) -> None:
        super().__init__()
        self.short_side = short_side
        self.factors = factors

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The size, the same for image and labels."""
        factor = torch.empty(()).uniform_(*self.factors).item()
        height, width = F.get_size(flat_inputs[0])
        return {"size": scaled_size(height, width, int(self.short_side * factor))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Applies it."""
        return resize(inpt, params["size"])


class LabelledCrop(v2.Transform):
    """A random crop, tried again while one class takes too much of it; smaller images stay whole."""

    def __init__(self, size: int, cat_max_ratio: float) -> None:
        super().__init__()
        self.size = size
        self.cat_max_ratio = cat_max_ratio

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Where to crop."""
        labels = next(part for part in flat_inputs if isinstance(part, tv_tensors.Mask))
        height, width = labels.shape[-2:]
        box = (0, 0, height, width)
        for _ in range(_CROP_TRIES):
            top = int(torch.randint(max(height - self.size, 0) + 1, ()))
            left = int(torch.randint(max(width - self.size, 0) + 1, ()))
            box = (top, left, min(self.size, height), min(self.size, width))
            if self.cat_max_ratio >= 1 or self.varied(labels[top : top + self.size, left : left + self.size]):
                break
        return {"box": box}

    def varied(self, labels: Tensor) -> bool:
        """Whether no class takes too much of the labelled pixels."""
        counts = torch.bincount(labels.flatten().long(), minlength=IGNORE + 1)[:IGNORE]
        return bool((counts > 0).sum() > 1) and counts.max().item() < self.cat_max_ratio * counts.sum().item()

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Applies it."""
        return F.crop(inpt, *params["box"])


class PhotometricDistortion(v2.Transform):
    """Brightness, contrast (first or last), saturation and hue, each with probability a half.

    Strengths as published: brightness ±32 of 255, contrast and saturation 0.5 to 1.5, hue ±18 of 180.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The strengths; None leaves one out."""
        ranges = {"brightness": (-32, 32), "contrast": (0.5, 1.5), "saturation": (0.5, 1.5), "hue": (-0.1, 0.1)}
        params: dict[str, Any] = {
            name: torch.empty(()).uniform_(*ends).item() if torch.rand(()) < 0.5 else None
            for name, ends in ranges.items()
        }
        return {**params, "contrast_last": bool(torch.rand(()) < 0.5)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Applies them to the image; labels pass."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        pixels = inpt.as_subclass(Tensor).float() / 255
        if params["brightness"] is not None:
            pixels = (pixels + params["brightness"] / 255).clamp_(0, 1)
        if not params["contrast_last"]:
            pixels = self.contrast(pixels, params["contrast"])
        if params["saturation"] is not None:
            pixels = F.adjust_saturation_image(pixels, params["saturation"])
        if params["hue"] is not None:
            pixels = F.adjust_hue_image(pixels, params["hue"])
        if params["contrast_last"]:
            pixels = self.contrast(pixels, params["contrast"])
        return tv_tensors.wrap((pixels * 255).round_().to(torch.uint8), like=inpt)

    @staticmethod
    def contrast(pixels: Tensor, factor: Any) -> Tensor:
        """Multiplies from black, as OpenCV's users do, not from the mean."""
        return pixels if factor is None else (pixels * factor).clamp_(0, 1)


class PadTo(v2.Transform):
    """Pads right and bottom: images with the mean colour, which normalises to 0 within rounding, labels with 255."""

    def __init__(self, size: int, colour: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        self.colour = colour

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Applies it."""
        height, width = F.get_size(inpt)
        missing = [0, 0, max(self.size - width, 0), max(self.size - height, 0)]
        if not any(missing):
            return inpt
        fill: Any = list(map(float, self.colour)) if isinstance(inpt, tv_tensors.Image) else IGNORE
        return F.pad(inpt, missing, fill=fill)
