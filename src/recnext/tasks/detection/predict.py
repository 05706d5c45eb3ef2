"""Detecting in images and video frames that have no annotations."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
import torch
from torch import Tensor

from recnext.data.images import Unreadable, UnreadableImageError, open_image

from .evaluate import to_coco, to_float
from .model import Detector


@dataclass(frozen=True, eq=False)
class Detected:
    """An image and what was found in it.

    Attributes:
        image: path or address.
        pixels: uint8 (H, W, 3).
        found: ``boxes``, ``labels``, ``scores`` and perhaps ``masks``, as of `Detector`.
    """

    image: str
    pixels: np.ndarray
    found: dict[str, Tensor]


class Finder:
    """A detector that takes pictures instead of tensors.

    Args:
        model: of `load`, on the device to compute on.
        threshold: lowest score of what is told.
        image_size: shorter side to detect at, instead of the detector's own.
        max_size: pixels that the longer side may have.
    """

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
        """What is in an image, the best first.

        Args:
            pixels: uint8 (H, W, 3), RGB.
        """
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        found = self.model([to_float(image, self.device)])[0]
        kept = found["scores"] >= self.threshold
        return {key: value[kept].cpu() for key, value in found.items()}

    def images(self, names: Iterable[str]) -> Iterator[Union[Detected, Unreadable]]:
        """Detects in files and addresses, in order; what cannot be read is told and left out."""
        for name in names:
            try:
                pixels = np.asarray(open_image(name))
            except UnreadableImageError as error:
                yield Unreadable(name, str(error))
            else:
                yield Detected(name, pixels, self(pixels))

    def records(self, detected: Detected, *, image_id: int) -> list[dict[str, Any]]:
        """Records of a COCO results file, with ``file_name`` and ``category`` for people."""
        records = to_coco(detected.found, image_id=image_id, category_ids=self.category_ids)
        names = [self.class_names[label - 1] for label in detected.found["labels"].tolist()]
        return [
            {"image_id": record.pop("image_id"), "file_name": detected.image, "category": name, **record}
            for record, name in zip(records, names, strict=True)
        ]


def resize_to(model: Detector, *, image_size: Optional[int] = None, max_size: Optional[int] = None) -> None:
    """Lets a detector work at another image size, in place; the longer side follows in the detector's own ratio."""
    if image_size is not None:
        ratio = model.config.max_size / model.config.min_size
        model.transform.min_size = (image_size,)
        model.transform.max_size = max(round(image_size * ratio), image_size)
    if max_size is not None:
        model.transform.max_size = max_size
