"""What a detector is made of; kept in the header of its checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from recnext.errors import RecNextError

TASK = "detection"


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """A detector; the defaults are the published ones.

    Args:
        backbone: timm name.
        backbone_args: its constructor arguments.
        num_classes: classes, without the background.
        masks: predict a mask of each object.
        channels: of every pyramid level and of the mask head.
        box_features: width of the two layers behind class and box.
        mask_layers: convolutions of the mask head.
        anchor_scale: side of the square anchors in strides.
        proposals: boxes an image that the second stage looks at.
        roi_samples: of these, boxes an image to learn from.
        min_size: pixels of the shorter side.
        max_size: pixels that the longer side may have.
        class_names: in the order of the labels 1, 2, ...
        category_ids: of the classes in COCO files, in the same order.
    """

    backbone: str = "recnext_m3"
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    num_classes: int = 80
    masks: bool = True
    channels: int = 256
    box_features: int = 1024
    mask_layers: int = 4
    anchor_scale: float = 8.0
    proposals: int = 1000
    roi_samples: int = 512
    min_size: int = 800
    max_size: int = 1333
    class_names: Optional[tuple[str, ...]] = None
    category_ids: Optional[tuple[int, ...]] = None

    def __post_init__(self) -> None:
        for name in ("num_classes", "channels", "box_features", "mask_layers", "proposals", "roi_samples"):
            if getattr(self, name) < 1:
                raise RecNextError(f"{name} is {getattr(self, name)}: expected an integer from 1")
        if not self.anchor_scale > 0:
            raise RecNextError(f"anchor_scale is {self.anchor_scale}: expected a number above 0")
        if not 32 <= self.min_size <= self.max_size:
            raise RecNextError(
                f"min_size {self.min_size} and max_size {self.max_size}: expected 32 <= min_size <= max_size, in pixels"
            )
        for name in ("class_names", "category_ids"):
            values = getattr(self, name)
            if values is not None and len(values) != self.num_classes:
                raise RecNextError(f"{len(values)} {name} for {self.num_classes} classes")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a header; class names and number of classes have their own place there."""
        values = {**asdict(self), "task": TASK, "backbone_args": dict(self.backbone_args)}
        return {key: values[key] for key in values if key not in ("class_names", "num_classes", "backbone")}

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for every class: "class 1" and so on where none are known."""
        return self.class_names or tuple(f"class {label}" for label in range(1, self.num_classes + 1))


def coco_classes() -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and category ids of COCO's 80 classes, in the order of the published labels 1 to 80."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    names = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    known = [(name, index) for index, name in enumerate(names) if name not in ("__background__", "N/A")]
    return tuple(name for name, _ in known), tuple(index for _, index in known)
