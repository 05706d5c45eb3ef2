"""Transforms: timm's, up to uint8 tensors; the device then does the arithmetic on whole batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from timm.data import create_transform
from timm.data.transforms import MaybePILToTensor
from torch import Tensor
from torchvision import transforms

SMALL_IMAGE = 32  # up to this size images are cropped with padding, as is usual for CIFAR, not zoomed into


@dataclass(frozen=True, kw_only=True)
class ImagePreparation:
    """How images become a network's input.

    Args:
        size: height and width in pixels.
        mean: of pixels in 0..1.
        std: of pixels in 0..1.
        crop_pct: share of the resized image's side that evaluation keeps (the centre).
        interpolation: of resizing.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 0.875
    interpolation: str = "bicubic"

    def evaluation_transform(self) -> Callable[[Image.Image], Tensor]:
        """Resize, centre crop, to uint8 (3, H, W)."""
        return create_transform(
            (3, *self.size),
            is_training=False,
            use_prefetcher=True,  # stops at uint8
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
        )

    def training_transform(
        self, *, crop_scale: float = 0.35, hflip: float = 0.5, color_jitter: float = 0.2
    ) -> Callable[[Image.Image], Tensor]:
        """Light augmentation: crop, flip and colour jitter, to uint8 (3, H, W).

        Args:
            crop_scale: smallest share of the area that a random resized crop may take; 1 leaves the image whole.
                Up to 32 pixels the crop is instead a random shift by up to an eighth, with padding.
            hflip: probability of a horizontal flip; 0 where left and right differ (digits, text).
            color_jitter: strength of the brightness, contrast and saturation changes.
        """
        if crop_scale >= 1:
            return create_transform((3, *self.size), is_training=True, no_aug=True, use_prefetcher=True)
        if max(self.size) > SMALL_IMAGE:
            return create_transform(
                (3, *self.size),
                is_training=True,
                use_prefetcher=True,
                scale=(crop_scale, 1.0),
                hflip=hflip,
                color_jitter=color_jitter,
                interpolation=self.interpolation,
            )
        steps = [
            transforms.Resize(self.size, interpolation=transforms.InterpolationMode(self.interpolation)),
            transforms.RandomCrop(self.size, padding=max(self.size) // 8),
        ]
        if hflip > 0:
            steps.append(transforms.RandomHorizontalFlip(hflip))
        if color_jitter > 0:
            steps.append(transforms.ColorJitter(color_jitter, color_jitter, color_jitter))
        return transforms.Compose([*steps, MaybePILToTensor()])


def normalise(
    images: Tensor, *, mean: Sequence[float], std: Sequence[float], device: torch.device, channels_last: bool = True
) -> Tensor:
    """Moves uint8 (N, 3, H, W) images to `device` as normalised float32.

    Args:
        images: pixels in 0..255.
        mean: of pixels in 0..1.
        std: of pixels in 0..1.
        device: target.
        channels_last: memory format of the result.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    pixels = images.to(device, non_blocking=True).to(torch.float32, memory_format=layout)
    scale = torch.tensor([255 * value for value in std], device=device).view(1, -1, 1, 1)
    shift = torch.tensor([255 * value for value in mean], device=device).view(1, -1, 1, 1)
    return pixels.sub_(shift).div_(scale)
