"""Transforms: timm's, up to uint8 tensors; the device then does the arithmetic on whole batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torchvision import transforms
from torchvision.transforms.functional import crop, get_dimensions

from .augmentation import Augmentation
from .batch import Batch
from .erasing import erase
from .resizing import TorchResizedCrop

LONGEST = (
    64  # times its width that an image is high at most, or the other way round, before its shorter side is resized
)
SMALL_IMAGE = 32  # up to this size images are cropped with padding, as is usual for CIFAR, not zoomed into


class CutEnds:
    """Cuts the ends off an image that is more than `LONGEST` times as long as wide: a centre crop never sees them.

    Enlarging the shorter side of such an image could take all memory.
    """

    def __call__(self, image: Any) -> Any:  # a PIL image, or uint8 (3, H, W)
        _, height, width = get_dimensions(image)
        longest = LONGEST * min(height, width)
        top, left = max(height - longest, 0) // 2, max(width - longest, 0) // 2
        return crop(image, top, left, height - 2 * top, width - 2 * left) if left or top else image


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
        transform: transforms.Compose = create_transform(
            (3, *self.size),
            is_training=False,
            use_prefetcher=True,  # stops at uint8
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
        )
        return transforms.Compose([CutEnds(), *transform.transforms])

    def training_transform(self, augmentation: Optional[Augmentation] = None) -> Callable[[Image.Image], Tensor]:
        """Random crop, flip, colours, to uint8 (3, H, W); erasing is left to `prepare_batch`.

        Args:
            augmentation: its strength; None is the light one.
        """
        chosen = augmentation or Augmentation()
        if chosen.crop_scale >= 1:
            plain = create_transform((3, *self.size), is_training=True, no_aug=True, use_prefetcher=True)
            return transforms.Compose([CutEnds(), *plain.transforms])
        transform: transforms.Compose = create_transform(
            (3, *self.size),
            is_training=True,
            use_prefetcher=True,
            scale=(chosen.crop_scale, 1.0),
            ratio=chosen.crop_ratio,
            hflip=chosen.hflip,
            color_jitter=chosen.color_jitter or None,
            auto_augment=chosen.auto_augment or None,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )
        if max(self.size) <= SMALL_IMAGE:
            transform.transforms[:1] = [
                transforms.Resize(self.size, interpolation=transforms.InterpolationMode(self.interpolation)),
                transforms.RandomCrop(self.size, padding=max(self.size) // 8),
            ]
        elif chosen.fast_resize and self.interpolation in ("bicubic", "bilinear"):
            transform.transforms[0] = TorchResizedCrop(
                self.size, scale=(chosen.crop_scale, 1.0), ratio=chosen.crop_ratio, interpolation=self.interpolation
            )
        return transform


def prepare_batch(
    batch: Batch,
    *,
    preparation: ImagePreparation,
    device: torch.device,
    augmentation: Optional[Augmentation] = None,
    seed: int = 0,
    channels_last: bool = True,
) -> Tensor:
    """The device's half of the pipeline: uint8 to normalised float32, and random erasing where it is asked for.

    The rectangles are functions of (seed, epoch, position) alone, so they are the same for any number of workers and
    in a resumed run; the noise in them also depends on the kind of device.

    Args:
        batch: from `make_loader`.
        preparation: holds the mean and std.
        device: target.
        augmentation: of training; None does not erase.
        seed: of the run.
        channels_last: memory format of the result.
    """
    images = normalise(
        batch.images, mean=preparation.mean, std=preparation.std, device=device, channels_last=channels_last
    )
    if augmentation is None or augmentation.erase_prob == 0:
        return images
    return erase(
        images,
        positions=batch.positions.tolist(),
        probability=augmentation.erase_prob,
        mode=augmentation.erase_mode,
        seed=seed,
        epoch=batch.epoch,
    )


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
