"""Segmenting images and video frames that have no labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from PIL import Image

from recnext.data import normalise
from recnext.engine.devices import choose_device
from recnext.engine.settings import require
from recnext.sizes import SMALLEST_IMAGE
from recnext.tasks.evaluation import NetworkSettings, checked
from recnext.tasks.prediction import save_png

from .checkpoint import load
from .draw import class_shares, colour_mask, draw_prediction, overlay
from .evaluate import preparation_of
from .inference import Forward, segment
from .model import SemanticFPN
from .transforms import SegmentationPreparation, resize, scaled_size


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings(NetworkSettings):
    """Which segmenter to use on images, and how.

    Args:
        image_size: shorter side at which images are segmented; by default the one of training, 512 for published.
        window: side of a sliding window in pixels of that size; 0 segments whole images.
    """

    image_size: Optional[int] = None
    window: int = 0

    def __post_init__(self) -> None:
        require_sizes(self)

    def open(self) -> "Segmenter":
        """The segmenter.

        Raises:
            RecNextError: no such checkpoint or device, or no segmenter in it.
        """
        device = choose_device(self.device)
        model = load(self.given_checkpoint, backbone=self.model, ema=self.ema, fused=self.fused, device=device)
        return Segmenter(model, image_size=self.image_size, window=self.window)


def require_sizes(settings: Any) -> None:
    """Checks ``image_size`` and ``window``.

    Raises:
        RecNextError: one is too small.
    """
    size, least = settings.image_size, f"an integer from {SMALLEST_IMAGE}"
    require(settings, "image_size", size is None or size >= SMALLEST_IMAGE, least)
    require(settings, "window", settings.window == 0 or settings.window >= SMALLEST_IMAGE, f"0 or {least}")


class Segmenter:
    """A segmenter that takes pictures instead of tensors: the `Predictor` of segmentation.

    Args:
        model: of `load`, on the device to compute on.
        image_size: the shorter side to segment at, instead of the one it was trained at.
        window: side of a sliding window in pixels; 0 takes whole images, as published.
        class_names: in the order of the logits; by default the checkpoint's, or numbers.
        forward: computes what the model does, faster.
    """

    key = "classes"
    suffixes = (".png", "_mask.png")

    def __init__(
        self,
        model: SemanticFPN,
        *,
        image_size: Optional[int] = None,
        window: int = 0,
        class_names: Optional[tuple[str, ...]] = None,
        forward: Optional[Forward] = None,
    ) -> None:
        self.preparation: SegmentationPreparation = preparation_of(model, image_size=image_size)
        self.window = window
        numbers = tuple(str(number) for number in range(model.num_classes))
        self.class_names = class_names or model.class_names or numbers
        self.device = next(model.parameters()).device
        self.forward: Forward = checked(forward or model.eval())

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The class of every pixel.

        Args:
            pixels: uint8 (H, W, 3), RGB.

        Returns:
            uint8 (H, W).

        Raises:
            RecNextError: the weights are damaged.
        """
        height, width = pixels.shape[:2]
        image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
        image = resize(image, scaled_size(height, width, self.preparation.image_size))
        image = resize(image, self.preparation.evaluation_size(height, width))
        batch = normalise(image[None], mean=self.preparation.mean, std=self.preparation.std, device=self.device)
        labels = segment(self.forward, batch, size=(height, width), window=self.window)
        return labels.to(torch.uint8).cpu().numpy()

    def draw(self, pixels: np.ndarray, found: np.ndarray) -> Image.Image:
        """An overlay with its legend."""
        return draw_prediction(pixels, found, self.class_names)

    def draw_frame(self, pixels: np.ndarray, found: np.ndarray) -> np.ndarray:
        """An overlay."""
        return overlay(pixels, found, num_classes=len(self.class_names))

    def save(self, found: np.ndarray, paths: Sequence[Path]) -> dict[str, str]:
        """Writes the class numbers as a palette image."""
        [path] = paths
        save_png(colour_mask(found, len(self.class_names)), path)
        return {"mask": str(path)}

    def entries(self, found: np.ndarray) -> list[dict[str, Any]]:
        """Classes that occur and their shares of the pixels, the largest first."""
        return [
            {"index": label, "name": self.class_names[label], "share": round(share, 6)}
            for label, share in class_shares(found, len(self.class_names))
        ]

    def describe(self, entries: Sequence[Mapping[str, Any]]) -> str:
        """Classes and shares."""
        return ", ".join(f"{entry['name']} {100 * entry['share']:.1f}%" for entry in entries)
