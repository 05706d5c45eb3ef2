"""Running a detector over a data set, on one process or many."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Optional

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from recnext.data.images import UnreadableImageError

from .batches import DetectionBatch
from .coco import CocoFile
from .metrics import CocoResult, coco_metrics
from .rle import encode_masks


@dataclass(frozen=True)
class DetectionResult:
    """COCO's numbers.

    Attributes:
        images: evaluated.
        box: of boxes.
        mask: of masks; None for a detector without.
        detections: as in a COCO results file; empty in all processes but the first.
    """

    images: int
    box: CocoResult
    mask: Optional[CocoResult]
    detections: list[dict[str, Any]]

    def numbers(self) -> dict[str, float]:
        """COCO's twelve as ``box_ap``, ``box_ap50`` and so on, and with masks ``mask_ap``; NaN without such objects."""
        kinds = [("box", self.box), *([] if self.mask is None else [("mask", self.mask)])]
        return {f"{kind}_{name}": value for kind, part in kinds for name, value in part.numbers.items()}

    def summary(self) -> dict[str, float]:
        """AP, AP50 and AP75 of `numbers`, 0 in place of NaN."""
        found = self.numbers().items()
        return {key: value if value == value else 0.0 for key, value in found if key.endswith(("_ap", "50", "75"))}


class DetectionMeter:
    """Collects this process's detections; `compute` joins those of all."""

    def __init__(self, file: CocoFile, *, masks: bool) -> None:
        self.file = file
        self.masks = masks
        self.detections: list[dict[str, Any]] = []
        self.image_ids: list[int] = []

    def add(self, image_id: int, found: dict[str, Tensor]) -> None:
        """Adds an image's detections, in pixels of the image."""
        self.image_ids.append(image_id)
        self.detections += to_coco(found, image_id=image_id, category_ids=self.file.category_ids)

    def compute(self) -> DetectionResult:
        """The numbers over all processes, the same in each. Collective."""
        detections, image_ids = gather_object(self.detections), gather_object(self.image_ids)
        box: Optional[CocoResult] = None
        mask: Optional[CocoResult] = None
        results = [box, mask]
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            order = {image.id: place for place, image in enumerate(self.file.images)}
            detections = sorted(detections, key=lambda each: order[each["image_id"]])  # as one process has them
            results[0] = coco_metrics(self.file, detections, image_ids=image_ids, masks=False)
            if self.masks:
                results[1] = coco_metrics(self.file, detections, image_ids=image_ids, masks=True)
        else:
            detections = []
        box, mask = broadcast_object_list(results)
        assert box is not None
        return DetectionResult(len(image_ids), box, mask, detections)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[DetectionBatch],
    *,
    file: CocoFile,
    masks: bool,
    device: torch.device,
    precision: Optional[torch.dtype] = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_images: Callable[[int], Any] = lambda _: None,
) -> DetectionMeter:
    """Runs this process's batches.

    Args:
        model: in eval mode, on `device`.
        batches: of `evaluation_loader`.
        file: the annotations.
        masks: whether the model gives masks.
        device: where the model is.
        precision: for autocast; None is float32.
        should_stop: asked between batches.
        on_images: called with the number of images after each batch.

    Raises:
        UnreadableImageError: an image cannot be read: the numbers would be wrong without it.
    """
    meter = DetectionMeter(file, masks=masks)
    for batch in batches:
        if batch.unreadable:
            raise UnreadableImageError(batch.unreadable[0])
        images = [to_float(image, device) for image in batch.images]
        with nullcontext() if precision is None else torch.autocast(device.type, dtype=precision):
            found = model(images)
        for each, target in zip(found, batch.targets, strict=True):
            meter.add(target["image_id"], each)
        on_images(len(images))
        if should_stop():
            break
    return meter


def to_float(image: Tensor, device: torch.device) -> Tensor:
    """Uint8 (3, H, W) to 0..1 on the device."""
    return image.to(device, non_blocking=True).float() / 255


def to_coco(found: dict[str, Tensor], *, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """One image's detections as records of a COCO results file; masks as compressed RLE.

    Raises:
        MissingExtraError: there are masks, and faster-coco-eval is not installed.
    """
    boxes = found["boxes"].double().cpu()
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    records: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": category_ids[label - 1], "bbox": box, "score": score}
        for box, label, score in zip(
            boxes.tolist(), found["labels"].tolist(), found["scores"].double().tolist(), strict=True
        )
    ]
    if "masks" in found and records:
        encoded = encode_masks(found["masks"][:, 0].cpu().numpy())
        records = [{**record, "segmentation": rle} for record, rle in zip(records, encoded, strict=True)]
    return records
