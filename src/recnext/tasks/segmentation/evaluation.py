"""A segmenter, from any checkpoint, on images with masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from recnext.checkpoints.published import published
from recnext.engine.processes import Processes
from recnext.errors import RecNextError
from recnext.tasks.evaluation import Evaluation, EvaluationSettings, OnImages, checked, metric_lines
from recnext.tasks.grid import Grid

from .batches import evaluation_loader
from .checkpoint import load
from .data import open_evaluation
from .evaluate import evaluate, preparation_of
from .job import METRICS
from .metrics import SegmentationResult
from .predict import require_sizes

_ADE_CLASSES = 150


@dataclass(frozen=True, kw_only=True)
class SegmentationEvaluation(EvaluationSettings):
    """What the evaluation of a segmenter is asked for.

    Args:
        image_size: shorter side at which images are segmented; by default the one of training, 512 for published.
        window: side of a sliding window in pixels of that size; 0 segments whole images, as published.
        num_classes: classes, where no classes.txt names them.
        mask_values: what masks hold for each class, such as [0,255], as in training.
    """

    image_size: Optional[int] = None
    window: int = 0
    num_classes: Optional[int] = None
    mask_values: Optional[tuple[int, ...]] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(self)

    def evaluate(self, data: str, *, processes: Processes, on_images: OnImages) -> Evaluation:
        """Measures mIoU, mAcc and aAcc from one confusion matrix over all pixels; the processes share the images.

        Args:
            data: a tree as of `open_mask_folders`, or a folder that holds images and masks.
            processes: which of them this is.
            on_images: for progress.

        Raises:
            RecNextError: no such checkpoint or data, or they have other classes, or the weights are damaged.
            UnreadableImageError: names the first image or mask that cannot be used.
        """
        images = open_evaluation(Path(data), num_classes=self.num_classes, values=self.mask_values)
        checkpoint, device = self.given_checkpoint, processes.device
        model = load(checkpoint, backbone=self.model, ema=self.ema, fused=self.fused, device=device)
        if model.num_classes != len(images.class_names):
            raise RecNextError(
                f"{checkpoint} knows {model.num_classes} classes, {data} has {len(images.class_names)}: "
                "evaluate on the classes it was trained for"
            )
        preparation = preparation_of(model, image_size=self.image_size)
        loader = evaluation_loader(
            images,
            preparation=preparation,
            workers=self.workers,
            pin_memory=device.type == "cuda",
            rank=processes.rank,
            world_size=processes.world_size,
        )
        meter = evaluate(
            checked(model),
            loader,
            num_classes=model.num_classes,
            preparation=preparation,
            device=device,
            window=self.window,
            on_image=lambda: on_images(1, len(loader)),
        )
        return report(
            meter.compute(),
            images.class_names,
            checkpoint=checkpoint,
            data=str(images.root),
            backbone=model.pretrained_cfg["architecture"],
            image_size=preparation.image_size,
            window=self.window,
        )


def report(result: SegmentationResult, class_names: tuple[str, ...], **facts: Any) -> Evaluation:
    """The numbers of an evaluation with the published mIoU of the backbone, where the classes may be ADE20K's.

    Args:
        result: over all processes.
        class_names: in the order of the classes.
        **facts: ``backbone``, and what else is to be remembered.
    """
    known = published_miou(facts.get("backbone"), classes=len(class_names))
    facts |= {"images": result.images, "classes": len(class_names), **result.summary()}
    rows = zip(
        class_names, result.iou.tolist(), result.accuracy.tolist(), result.confusion.sum(1).tolist(), strict=True
    )
    return Evaluation(
        facts=facts,
        lines=metric_lines(METRICS, result.summary(), published=known),
        classes=Grid(("class", "iou", "accuracy", "pixels"), list(rows)),
    )


def published_miou(backbone: Optional[str], *, classes: int) -> dict[str, str]:
    """The published mIoU by metric; empty where there is none or the data cannot be ADE20K."""
    entry = None
    if classes == _ADE_CLASSES and backbone is not None:
        entry = published()["ade20k_semantic_fpn"].get(backbone.partition(".")[0])
    return {} if entry is None else {"miou": f"{float(entry['miou']):.1f} % on ADE20K"}
