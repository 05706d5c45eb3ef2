"""Detecting in images and video frames that have no annotations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recnext.engine.devices import choose_device
from recnext.engine.settings import require
from recnext.nn.fusion import fuse
from recnext.sizes import SMALLEST_IMAGE
from recnext.tasks.evaluation import NetworkSettings

from .checkpoint import load
from .draw import draw_detections
from .evaluate import to_coco, to_float
from .model import Detector
from .rle import mask_tools


@dataclass(frozen=True, kw_only=True)
class DetectionSettings(NetworkSettings):
    """Which detector to use on images, and how.

    Args:
        threshold: lowest score of what is drawn and listed.
        image_size: shorter side of the images; by default the one of training, 800 for published.
        max_size: pixels that the longer side may have; by default in the ratio of training.
    """

    threshold: float = 0.5
    image_size: Optional[int] = None
    max_size: Optional[int] = None

    def __post_init__(self) -> None:
        require_sizes(self)
        require(self, "threshold", 0 <= self.threshold <= 1, "a score from 0 to 1")

    def open(self) -> "Finder":
        """The detector.

        Raises:
            RecNextError: no such checkpoint or device, or no detector in it.
        """
        model = load(self.given_checkpoint, backbone=self.model, ema=self.ema, device=choose_device(self.device))
        if model.config.masks:
            mask_tools()
        sizes = {"image_size": self.image_size, "max_size": self.max_size}
        return Finder(fuse(model) if self.fused else model, threshold=self.threshold, **sizes)


def require_sizes(settings: Any) -> None:
    """Checks ``image_size`` and ``max_size``.

    Raises:
        RecNextError: one is too small.
    """
    for name in ("image_size", "max_size"):
        value = getattr(settings, name)
        require(settings, name, value is None or value >= SMALLEST_IMAGE, f"an integer from {SMALLEST_IMAGE}")


class Finder:
    """A detector that takes pictures instead of tensors: the `Predictor` of detection.

    Args:
        model: of `load`, on the device to compute on.
        threshold: lowest score of what is told.
        image_size: shorter side to detect at, instead of the detector's own.
        max_size: pixels that the longer side may have.
    """

    key = "detections"
    suffixes = (".png",)

    def __init__(
        self,
        model: Detector,
        *,
        threshold: float = 0.5,
        image_size: Optional[int] = None,
        max_size: Optional[int] = None,
    ) -> None:
        self.model = model.eval()
        self.threshold = threshold
        self.class_names = model.labels
        self.category_ids = model.config.category_ids or tuple(range(1, model.config.num_classes + 1))
        self.device = next(model.parameters()).device
        resize_to(model, image_size=image_size, max_size=max_size)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> dict[str, Tensor]:
        """What is in an image, the best first: ``boxes``, ``labels``, ``scores`` and perhaps ``masks``.

        Args:
            pixels: uint8 (H, W, 3), RGB.
        """
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        found = self.model([to_float(image, self.device)])[0]
        kept = found["scores"] >= self.threshold
        return {key: value[kept].cpu() for key, value in found.items()}

    def draw(self, pixels: np.ndarray, found: dict[str, Tensor]) -> Image.Image:
        """Boxes, masks, classes and scores over the picture."""
        return draw_detections(pixels, found, self.class_names)

    def draw_frame(self, pixels: np.ndarray, found: dict[str, Tensor]) -> np.ndarray:
        """The same."""
        return np.asarray(self.draw(pixels, found))

    def save(self, found: dict[str, Tensor], paths: Sequence[Path]) -> dict[str, str]:
        """Nothing more is written."""
        return {}

    def entries(self, found: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Records of a COCO results file without their image, with ``category`` for people."""
        records = to_coco(found, image_id=0, category_ids=self.category_ids)
        names = [self.class_names[label - 1] for label in found["labels"].tolist()]
        return [
            {"category": name, **{key: value for key, value in record.items() if key != "image_id"}}
            for record, name in zip(records, names, strict=True)
        ]

    def describe(self, entries: Sequence[Mapping[str, Any]]) -> str:
        """Classes and scores."""
        return ", ".join(f"{entry['category']} {entry['score']:.2f}" for entry in entries) or "nothing"


def resize_to(model: Detector, *, image_size: Optional[int] = None, max_size: Optional[int] = None) -> None:
    """Lets a detector work at another image size, in place; the longer side follows in the detector's own ratio."""
    if image_size is not None:
        ratio = model.config.max_size / model.config.min_size
        model.transform.min_size = (image_size,)
        model.transform.max_size = max(round(image_size * ratio), image_size)
    if max_size is not None:
        model.transform.max_size = max_size
