"""Segmenting images and video frames that have no labels."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np
import torch

from recnext.data import normalise
from recnext.data.images import Unreadable, UnreadableImageError, open_image

from .draw import class_shares
from .evaluate import preparation_of
from .inference import Forward, segment
from .model import SemanticFPN
from .transforms import SegmentationPreparation, resize, scaled_size


@dataclass(frozen=True, eq=False)
class Segmented:
    """An image and the class of each of its pixels.

    Attributes:
        image: path or address.
        pixels: uint8 (H, W, 3).
        labels: uint8 (H, W), classes.
        class_names: of all classes.
    """

    image: str
    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def shares(self) -> list[tuple[int, float]]:
        """Classes that occur and their shares of the pixels, the largest first."""
        return class_shares(self.labels, len(self.class_names))


class Segmenter:
    """A segmenter that takes pictures instead of tensors.

    Args:
        model: of `load`, on the device to compute on.
        image_size: the shorter side to segment at, instead of the one it was trained at.
        window: side of a sliding window in pixels; 0 takes whole images, as published.
        class_names: in the order of the logits; by default the checkpoint's, or numbers.
        forward: computes what the model does, faster.
    """

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
        self.forward: Forward = forward or model.eval()

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The class of every pixel.

        Args:
            pixels: uint8 (H, W, 3), RGB.

        Returns:
            uint8 (H, W).
        """
        height, width = pixels.shape[:2]
        image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
        image = resize(image, scaled_size(height, width, self.preparation.image_size))
        image = resize(image, self.preparation.evaluation_size(height, width))
        batch = normalise(image[None], mean=self.preparation.mean, std=self.preparation.std, device=self.device)
        labels = segment(self.forward, batch, size=(height, width), window=self.window)
        return labels.to(torch.uint8).cpu().numpy()

    def images(self, names: Iterable[str]) -> Iterator[Union[Segmented, Unreadable]]:
        """Segments files and addresses, in order; what cannot be read is told and left out."""
        for name in names:
            try:
                pixels = np.array(open_image(name))
            except UnreadableImageError as error:
                yield Unreadable(name, str(error))
            else:
                yield Segmented(name, pixels, self(pixels), self.class_names)
