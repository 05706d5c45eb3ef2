"""COCO's average precision, by faster-coco-eval."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recnext.engine.job import Metric
from recnext.errors import MissingExtraError

from .coco import CocoFile

_TITLES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP of objects under 32² px",
    "ap_medium": "AP of 32² to 96² px",
    "ap_large": "AP over 96² px",
    "ar1": "AR, 1 detection an image",
    "ar10": "AR, 10 detections",
    "ar100": "AR, 100 detections",
    "ar_small": "AR of objects under 32² px",
    "ar_medium": "AR of 32² to 96² px",
    "ar_large": "AR over 96² px",
}
NUMBERS = tuple(_TITLES)
"""COCO's twelve, in its order."""
COCO_METRICS = tuple(
    Metric(f"{kind}_{key}", f"{kind} {title}") for kind in ("box", "mask") for key, title in _TITLES.items()
)
"""Of boxes and of masks."""


@dataclass(frozen=True)
class CocoResult:
    """COCO's numbers of boxes or masks, in percent; NaN where no object is of the size or class.

    Attributes:
        numbers: by `NUMBERS`.
        per_class: average precision (IoU .5 to .95) of each class, in the order of the labels.
        per_class50: the same at IoU .5.
    """

    numbers: dict[str, float]
    per_class: tuple[float, ...]
    per_class50: tuple[float, ...]

    def by_class(self) -> dict[str, tuple[float, ...]]:
        """``ap`` and ``ap50`` of each class."""
        return {"ap": self.per_class, "ap50": self.per_class50}


def coco_metrics(file: CocoFile, detections: Sequence[dict[str, Any]], *, image_ids: Sequence[int], masks: bool) -> Any:
    """Compares detections with the annotations.

    Crowds are ignored regions, as COCO has it.

    Args:
        file: the annotations.
        detections: as in a COCO results file: ``image_id``, ``category_id``, ``score``, ``bbox``, ``segmentation``.
        image_ids: of the images that were evaluated.
        masks: judge masks instead of boxes.

    Returns:
        A `CocoResult`.

    Raises:
        MissingExtraError: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise MissingExtraError("faster-coco-eval", "detection", "COCO evaluation") from None
    logging.getLogger("faster_coco_eval").setLevel(logging.ERROR)
    numbers = {image.id: number for number, image in enumerate(file.images, start=1)}  # ids may be text
    images = [{**image, "id": numbers[image["id"]]} for image in file.ground_truth["images"]]
    known = [{**record, "image_id": numbers[record["image_id"]]} for record in file.ground_truth["annotations"]]
    truth = COCO({**file.ground_truth, "images": images, "annotations": known})
    left_out = "bbox" if masks else "segmentation"  # else it would decide the area that sizes go by
    judged = [
        {key: value for key, value in each.items() if key != left_out} | {"image_id": numbers[each["image_id"]]}
        for each in detections
    ]
    found = truth.loadRes(judged) if judged else COCO({**file.ground_truth, "images": images, "annotations": []})
    evaluation = COCOeval_faster(truth, found, "segm" if masks else "bbox")
    evaluation.params.imgIds = sorted(numbers[image_id] for image_id in image_ids)
    evaluation.params.catIds = list(file.category_ids)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = np.asarray(evaluation.eval["precision"]).reshape(10, 101, len(file.category_ids), 4, 3)[..., 0, 2]
    twelve = {name: _percent(value) for name, value in zip(NUMBERS, evaluation.stats[:12], strict=True)}
    whole = tuple(_mean(precision[:, :, index]) for index in range(len(file.category_ids)))
    half = tuple(_mean(precision[0, :, index]) for index in range(len(file.category_ids)))
    return CocoResult(twelve, whole, half)


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return 100 * float(known.mean()) if known.size else float("nan")


def _percent(value: float) -> float:
    """COCO writes -1 where there is nothing to judge."""
    return float("nan") if value < 0 else 100 * float(value)
