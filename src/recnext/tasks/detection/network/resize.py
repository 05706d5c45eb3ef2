"""The detectors' own preparation of images: scale by the published rule, normalise, pad; and back."""

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from recnext.tasks.detection.masks import paste_masks


def resized_size(height: int, width: int, *, min_size: int, max_size: int) -> tuple[int, int]:
    """(height, width) with the shorter side `min_size`, or smaller so that the longer one is at most `max_size`."""
    scale = min(max_size / max(height, width), min_size / min(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


class PublishedTransform(GeneralizedRCNNTransform):
    """torchvision's transform with the published rounding of sizes, and masks pasted on unrounded boxes.

    Set `min_size` (a tuple: in training one is drawn, in evaluation the last one taken) and `max_size` for other
    image sizes.
    """

    def resize(
        self, image: Tensor, target: Optional[dict[str, Tensor]] = None
    ) -> tuple[Tensor, Optional[dict[str, Tensor]]]:
        """Scales an image (C, H, W), and its boxes and masks."""
        old = (int(image.shape[-2]), int(image.shape[-1]))
        sizes = (self.min_size,) if isinstance(self.min_size, int) else tuple(self.min_size)
        min_size = self.torch_choice(list(sizes)) if self.training else sizes[-1]
        size = resized_size(*old, min_size=min_size, max_size=self.max_size)
        if size != old:
            image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
        if target is None or size == old:
            return image, target
        target["boxes"] = resize_boxes(target["boxes"], old, size)
        if "masks" in target:
            target["masks"] = F.interpolate(target["masks"][:, None].byte(), size=size, mode="nearest")[:, 0]
        return image, target

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Boxes in pixels of the images as given; masks (N, 1, H, W) bool in their size."""
        if self.training:
            return result
        for found, scaled, original in zip(result, image_shapes, original_image_sizes, strict=True):
            found["boxes"] = resize_boxes(found["boxes"], scaled, original)
            if "masks" in found:
                size = (int(original[0]), int(original[1]))
                found["masks"] = paste_masks(found["masks"], found["boxes"], size=size)
        return result

    def normalize(self, image: Tensor) -> Tensor:
        """From 0..1 to what the backbone was trained on."""
        if not torch.is_floating_point(image):
            raise TypeError(f"images must be floating point in 0..1, not {image.dtype}")
        mean, std = (image.new_tensor(values)[:, None, None] for values in (self.image_mean, self.image_std))
        return (image - mean) / std
