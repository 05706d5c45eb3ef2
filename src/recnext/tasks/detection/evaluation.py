"""A detector, from any checkpoint, on images with COCO annotations."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional

from recnext.checkpoints.published import published
from recnext.engine.processes import Processes
from recnext.engine.settings import require
from recnext.errors import RecNextError
from recnext.files import write_atomically
from recnext.nn.fusion import fuse
from recnext.tasks.evaluation import Evaluation, EvaluationSettings, OnImages, metric_lines
from recnext.tasks.grid import Grid
from recnext.text import to_json

from .batches import evaluation_loader
from .checkpoint import load
from .coco import read_coco
from .data import CocoFolder, open_images, open_split
from .evaluate import DetectionResult, evaluate
from .metrics import COCO_METRICS
from .model import Detector
from .predict import require_sizes, resize_to
from .rle import mask_tools

_COCO_CLASSES = 80


@dataclass(frozen=True, kw_only=True)
class DetectionEvaluation(EvaluationSettings):
    """What the evaluation of a detector is asked for.

    Args:
        annotations: a COCO JSON file of the images in DATA.
        masks: measure masks too, where the detector has them.
        image_size: shorter side of the images; by default the one of training, 800 for published.
        max_size: pixels that the longer side may have; by default in the ratio of training.
        batch_size: images at once; above 1 they are padded to one size, which moves the numbers a little.
    """

    annotations: Optional[str] = None
    masks: bool = True
    image_size: Optional[int] = None
    max_size: Optional[int] = None
    batch_size: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "batch_size", self.batch_size >= 1, "an integer from 1")
        require_sizes(self)

    def evaluate(self, data: str, *, processes: Processes, on_images: OnImages) -> Evaluation:
        """Measures COCO's average precision; the processes share the images.

        Args:
            data: a tree as of `open_coco`, or with `annotations` a folder of images.
            processes: which of them this is.
            on_images: for progress.

        Raises:
            RecNextError: no such checkpoint or data, or they have other classes.
            UnreadableImageError: names the first image that cannot be read.
        """
        mask_tools()
        checkpoint = self.given_checkpoint
        model = load(checkpoint, backbone=self.model, ema=self.ema, device=processes.device)
        masks = self.masks and model.config.masks
        images = self._open(Path(data), masks=masks)
        _require_same_classes(model, images, checkpoint)
        resize_to(model, image_size=self.image_size, max_size=self.max_size)
        loader = evaluation_loader(
            images,
            batch_size=self.batch_size,
            workers=self.workers,
            rank=processes.rank,
            world_size=processes.world_size,
            pin_memory=processes.device.type == "cuda",
        )
        share = -(-len(images) // processes.world_size)
        meter = evaluate(
            fuse(model) if self.fused else model,
            loader,
            file=images.file,
            masks=masks,
            device=processes.device,
            on_images=lambda count: on_images(count, share),
        )
        return report(
            meter.compute(),
            images,
            checkpoint=checkpoint,
            backbone=model.config.backbone,
            image_size=[model.transform.min_size[-1], model.transform.max_size],
        )

    def _open(self, data: Path, *, masks: bool) -> CocoFolder:
        if self.annotations is None:
            return open_split(data, "val", masks=masks)
        if not data.is_dir():
            raise RecNextError(f"{data} is no folder: with --annotations, DATA is the folder of the images")
        return open_images(data, read_coco(Path(self.annotations), masks=masks), masks=masks)


def report(result: DetectionResult, images: CocoFolder, **facts: Any) -> Evaluation:
    """The numbers of an evaluation with what is published of the backbone, where the data may be COCO's 80 classes.

    Args:
        result: over all processes.
        images: that were evaluated.
        **facts: ``backbone``, and what else is to be remembered.
    """
    names = images.file.class_names
    known = published_ap(facts.get("backbone"), classes=len(names))
    notes = images.file.notes
    numbers = result.numbers()
    facts |= {"data": str(images.file.path), "images": result.images, "classes": len(names), **numbers}
    kinds = [("box", result.box), *([] if result.mask is None else [("mask", result.mask)])]
    columns = [(f"{kind}_{key}", values) for kind, part in kinds for key, values in part.by_class().items()]
    return Evaluation(
        facts={**facts, "passed_over": notes},
        lines=[*(("passed over", note) for note in notes), *metric_lines(COCO_METRICS, numbers, published=known)],
        classes=Grid(
            ("class", *(name for name, _ in columns)),
            [(name, *(values[row] for _, values in columns)) for row, name in enumerate(names)],
        ),
        files={"detections.json": partial(_write_detections, result)},
    )


def published_ap(backbone: Optional[str], *, classes: int) -> dict[str, str]:
    """Published numbers by metric; empty where there are none or the data cannot be COCO."""
    known: dict[str, float] = {}
    if classes == _COCO_CLASSES and backbone is not None:
        known = published()["coco_mask_rcnn_1x"].get(backbone.partition(".")[0], {})
    pairs = ((key.rpartition("_"), value) for key, value in known.items())
    return {f"{kind}_{number}": f"{value:.1f} %" for (number, _, kind), value in pairs if kind in ("box", "mask")}


def _write_detections(result: DetectionResult, path: Path) -> None:
    write_atomically(path, to_json(result.detections).encode() + b"\n")


def _require_same_classes(model: Detector, images: CocoFolder, checkpoint: str) -> None:
    names, own = images.file.class_names, model.config.class_names
    if model.config.num_classes != len(names):
        raise RecNextError(
            f"{checkpoint} knows {model.config.num_classes} classes, {images.file.path} has {len(names)}: "
            "evaluate on the classes it was trained for"
        )
    if own is not None and own != names:
        first = next((ours, theirs) for ours, theirs in zip(own, names, strict=True) if ours != theirs)
        raise RecNextError(
            f"{checkpoint} was trained on other classes than those of {images.file.path} ({first[0]!r}, there "
            f"{first[1]!r}): evaluate on its own"
        )
