"""Detection as the engine sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Union

from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from recnext.checkpoints.reading import read_weights
from recnext.engine.job import Metric
from recnext.errors import RecNextError

from .batches import GroupedBatches, evaluation_loader, training_loader
from .checkpoint import is_detector, load
from .config import DetectorConfig
from .data import CocoFolders, open_coco, training_transform
from .metrics import COCO_METRICS
from .model import Detector, build
from .rle import mask_tools
from .settings import DetectSettings
from .task import DetectionTask

METRICS = tuple(metric for metric in COCO_METRICS if metric.key.endswith(("_ap", "_ap50", "_ap75")))


@dataclass(frozen=True)
class DetectionJob:
    """Trains a Mask R-CNN, or a Faster R-CNN, on images with COCO annotations."""

    name: str = "detection"
    settings: type[DetectSettings] = DetectSettings
    metrics: tuple[Metric, ...] = METRICS

    def open(self, settings: DetectSettings, data: Union[str, Path]) -> CocoFolders:
        """A folder that `open_coco` takes.

        Raises:
            MissingExtraError: faster-coco-eval is not installed.
        """
        mask_tools()  # evaluation needs it: better to say so before the first epoch than after it
        return open_coco(
            Path(data),
            masks=settings.masks,
            max_missing=settings.max_unreadable,
            keep_empty=settings.keep_empty,
        )

    def build(self, settings: DetectSettings, splits: CocoFolders, *, weights: bool) -> Detector:
        """The detector; see `build_for`."""
        return build_for(settings, splits, weights=weights)

    def resolve(self, settings: DetectSettings, model: nn.Module) -> DetectSettings:
        """With the constructor arguments that a checkpoint brought."""
        assert isinstance(model, Detector)
        return replace(settings, model_args=dict(model.config.backbone_args))

    def task(
        self, settings: DetectSettings, model: nn.Module, splits: CocoFolders, accelerator: Accelerator
    ) -> DetectionTask:
        """The detector's losses, and COCO's average precision."""
        assert isinstance(model, Detector)
        return DetectionTask(
            model,
            file=splits.val.file,
            training_sizes=settings.training_sizes,
            evaluation_size=settings.image_size,
        )

    def loaders(
        self, settings: DetectSettings, model: nn.Module, splits: CocoFolders, accelerator: Accelerator
    ) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Batches of images of one orientation, and the held-out images one at a time."""
        transform = training_transform(hflip=settings.hflip, photometric=settings.photometric)
        place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
        batches = GroupedBatches(splits.train.wide(), batch_size=settings.batch_size, seed=settings.seed, **place)
        options: dict[str, Any] = {"workers": settings.workers, "pin_memory": accelerator.device.type == "cuda"}
        return (
            training_loader(splits.train, batches, transform=transform, seed=settings.seed, **options),
            evaluation_loader(splits.val, **place, **options),
        )

    def head(self, model: nn.Module) -> nn.Module:
        """All but the backbone."""
        assert isinstance(model, Detector)
        return nn.ModuleList([model.backbone.fpn, model.backbone.finer, model.rpn, model.roi_heads])

    def facts(self, settings: DetectSettings, model: nn.Module, splits: CocoFolders) -> Mapping[str, Any]:
        """How images are prepared, COCO's numbers of the classes, and what of the data is passed over."""
        assert isinstance(model, Detector)
        return {
            "category_ids": list(splits.category_ids),
            "input": {
                "size": [settings.image_size, settings.longest],
                "mean": list(model.transform.image_mean),
                "std": list(model.transform.image_std),
            },
            "passed_over": list(splits.notes),
        }

    def title(self, settings: DetectSettings) -> str:
        """Kind, backbone, and the size of its images."""
        kind = "Mask R-CNN" if settings.masks else "Faster R-CNN (boxes alone)"
        size = f"shorter side {settings.image_size}, longer at most {settings.longest} px"
        return f"{kind} on {settings.model} from {settings.start}, {size}"

    def notes(self, settings: DetectSettings, splits: CocoFolders) -> tuple[str, ...]:
        """What of the data is passed over, and advice for a run from scratch."""
        return *splits.notes, settings.advice


def build_for(settings: DetectSettings, folders: CocoFolders, *, weights: bool = True) -> Detector:
    """The detector of a run; its starting weights are not needed when a state follows.

    Raises:
        RecNextError: the weights are none, or do not fit.
    """
    checkpoint = settings.checkpoint if weights else None
    config = DetectorConfig(
        backbone=settings.model,
        backbone_args=settings.model_args,
        num_classes=len(folders.class_names),
        masks=settings.masks,
        channels=settings.channels,
        box_features=settings.box_features,
        mask_layers=settings.mask_layers,
        anchor_scale=settings.anchor_scale,
        proposals=settings.proposals,
        roi_samples=settings.roi_samples,
        min_size=settings.image_size,
        max_size=settings.longest,
        class_names=folders.class_names,
        category_ids=folders.category_ids,
    )
    if checkpoint is None or not is_detector(read_weights(checkpoint)):
        return build(config, checkpoint=checkpoint, pretrained=settings.pretrained and weights and not checkpoint)
    return _continued(load(checkpoint, backbone=settings.model), config, checkpoint)


def _continued(start: Detector, config: DetectorConfig, checkpoint: str) -> Detector:
    """A detector of `config` with the weights of another, but for predictors of other classes."""
    backbone_args = {**start.config.backbone_args, **config.backbone_args}
    model = build(replace(config, backbone_args=backbone_args))
    state = start.state_dict()
    if start.config.num_classes != config.num_classes:
        state = {key: value for key, value in state.items() if "_predictor." not in key or "conv5_mask" in key}
    if not config.masks:
        state = {key: value for key, value in state.items() if ".mask_" not in key}
    try:
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise RecNextError(f"{checkpoint} does not fit --channels, --box-features or --mask-layers: {reason}") from None
    return model
