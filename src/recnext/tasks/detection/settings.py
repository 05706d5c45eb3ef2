"""Everything a detection run can be told."""

from dataclasses import dataclass
from typing import Optional

from recnext.engine.settings import NetworkRunSettings, Schedule, require

_SCALES = 5  # sizes to draw from between the smallest and the largest


@dataclass(frozen=True, kw_only=True)
class DetectSettings(NetworkRunSettings):
    """Settings of a detection run; the defaults are for fine-tuning on a few hundred images.

    Args:
        masks: learn masks too; off, boxes alone.
        channels: width of the pyramid and of the mask head.
        box_features: width of the layers behind class and box.
        mask_layers: convolutions of the mask head.
        anchor_scale: side of the square anchors in strides; smaller for smaller objects.
        proposals: boxes an image that the second stage looks at.
        roi_samples: of these, boxes an image to learn from.
        image_size: shorter side of the images in pixels.
        max_size: pixels that the longer side may have; by default five thirds of image_size.
        scale: range of the random factor on image_size in training.
        hflip: probability of a horizontal flip; 0 where left and right differ.
        photometric: change brightness, contrast, saturation and hue.
        keep_empty: train on images without objects too.
    """

    masks: bool = True
    channels: int = 256
    box_features: int = 1024
    mask_layers: int = 4
    anchor_scale: float = 8.0
    proposals: int = 1000
    roi_samples: int = 512
    image_size: int = 800
    max_size: Optional[int] = None
    scale: tuple[float, float] = (0.8, 1.2)
    hflip: float = 0.5
    photometric: bool = True
    keep_empty: bool = False

    epochs: int = 40
    batch_size: int = 4
    base_lr: float = 2e-4
    base_batch: int = 16
    min_lr: float = 1e-6
    schedule: Schedule = "cosine"
    weight_decay: float = 0.05
    decay_all: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "image_size", self.image_size >= 32, "at least 32 pixels")
        require(self, "max_size", self.max_size is None or self.max_size >= self.image_size, "at least --image-size")
        require(self, "scale", 0 < self.scale[0] <= self.scale[1] < 100, "two rising factors above 0")
        require(self, "hflip", 0 <= self.hflip <= 1, "from 0 to 1")
        require(self, "anchor_scale", self.anchor_scale > 0, "a number above 0")
        for name in ("channels", "box_features", "mask_layers", "proposals", "roi_samples"):
            require(self, name, getattr(self, name) >= 1, "a positive integer")

    @property
    def default_folder(self) -> str:
        """Name of the run folder where none is given."""
        return f"detect_{self.network}"

    @property
    def longest(self) -> int:
        """Pixels that the longer side may have."""
        return self.max_size or round(self.image_size * 5 / 3)

    @property
    def training_sizes(self) -> tuple[int, ...]:
        """Shorter sides that one is drawn from for each training image."""
        low, high = self.scale
        if low == high:
            return (max(round(self.image_size * low), 32),)
        factors = [low + (high - low) * step / (_SCALES - 1) for step in range(_SCALES)]
        return tuple(max(round(self.image_size * factor), 32) for factor in factors)
