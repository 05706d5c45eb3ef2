"""Everything a segmentation run can be told."""

from dataclasses import dataclass
from typing import Optional

from recnext.engine.settings import NetworkRunSettings, Schedule, require

from .losses import Normalisation


@dataclass(frozen=True, kw_only=True)
class SegmentSettings(NetworkRunSettings):
    """Settings of a segmentation run; the defaults are for fine-tuning on a few hundred images.

    Args:
        num_classes: as many as expected; needed where no classes.txt names the classes.
        mask_values: what masks hold for each class, such as [0,255]; by default 0, 1, 2, in ADE20K's layout 1, 2, 3.
        neck_channels: width of the feature pyramid.
        head_channels: width of the head.
        dropout: share of the head's channels dropped.
        image_size: side of the square crops, and in evaluation the shorter side, the longer at most four times it.
        scale: range of the random factor on that size.
        cat_max_ratio: largest share of a crop that one class may take, in ten tries.
        hflip: probability of a horizontal flip; 0 where left and right differ.
        photometric: change brightness, contrast, saturation and hue.
        loss: valid divides by the pixels with a label, all by all pixels, as published.
    """

    num_classes: Optional[int] = None
    mask_values: Optional[tuple[int, ...]] = None
    neck_channels: int = 256
    head_channels: int = 128
    dropout: float = 0.1
    image_size: int = 512
    scale: tuple[float, float] = (0.5, 2.0)
    cat_max_ratio: float = 0.75
    hflip: float = 0.5
    photometric: bool = True
    loss: Normalisation = "valid"

    epochs: int = 40
    batch_size: int = 8
    base_lr: float = 2e-4
    base_batch: int = 16
    min_lr: float = 1e-6
    schedule: Schedule = "poly"
    weight_decay: float = 0.05
    decay_all: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "image_size", self.image_size >= 32, "at least 32 pixels")
        require(self, "scale", 0 < self.scale[0] <= self.scale[1] < 100, "two rising factors above 0")
        require(self, "cat_max_ratio", 0 < self.cat_max_ratio <= 1, "a share above 0, at most 1")
        require(self, "hflip", 0 <= self.hflip <= 1, "from 0 to 1")
        require(self, "dropout", 0 <= self.dropout < 1, "from 0 to below 1")
        for name in ("neck_channels", "head_channels"):
            require(self, name, getattr(self, name) >= 1, "a positive integer")
        require(self, "num_classes", self.num_classes is None or self.num_classes >= 2, "at least 2")

    @property
    def default_folder(self) -> str:
        """Name of the run folder where none is given."""
        return f"segment_{self.network}"
