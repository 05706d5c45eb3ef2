"""Segmentation as the engine sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Union

from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from recnext.checkpoints.reading import read_weights
from recnext.checkpoints.saving import describe
from recnext.data.sampling import TrainBatches
from recnext.engine.job import Metric
from recnext.errors import RecNextError

from .batches import evaluation_loader, training_loader
from .checkpoint import load
from .data import MaskFolders, open_mask_folders
from .evaluate import preparation_of
from .model import SemanticFPN, build
from .settings import SegmentSettings
from .task import SegmentationTask

METRICS = (Metric("miou", "mIoU"), Metric("macc", "mAcc"), Metric("aacc", "aAcc"))


@dataclass(frozen=True)
class SegmentationJob:
    """Trains a Semantic FPN on images with masks."""

    name: str = "segmentation"
    settings: type[SegmentSettings] = SegmentSettings
    metrics: tuple[Metric, ...] = METRICS

    def open(self, settings: SegmentSettings, data: Union[str, Path]) -> MaskFolders:
        """ADE20K's layout, or ``data/{train,val}/{images,masks}``."""
        return open_mask_folders(Path(data), num_classes=settings.num_classes, values=settings.mask_values)

    def build(self, settings: SegmentSettings, splits: MaskFolders, *, weights: bool) -> SemanticFPN:
        """The segmenter; see `build_for`."""
        return build_for(settings, len(splits.class_names), weights=weights)

    def resolve(self, settings: SegmentSettings, model: nn.Module) -> SegmentSettings:
        """With the constructor arguments that a checkpoint brought."""
        assert isinstance(model, SemanticFPN)
        return replace(settings, model_args=describe(model.backbone).model_args)

    def task(
        self, settings: SegmentSettings, model: nn.Module, splits: MaskFolders, accelerator: Accelerator
    ) -> SegmentationTask:
        """Cross entropy over pixels, and mean IoU."""
        assert isinstance(model, SemanticFPN)
        preparation = preparation_of(model, image_size=settings.image_size)
        return SegmentationTask(model, settings, preparation=preparation, class_names=splits.class_names)

    def loaders(
        self, settings: SegmentSettings, model: nn.Module, splits: MaskFolders, accelerator: Accelerator
    ) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Crops, and the held-out images one at a time."""
        assert isinstance(model, SemanticFPN)
        preparation = preparation_of(model, image_size=settings.image_size)
        transform = preparation.training_transform(
            scale=settings.scale,
            cat_max_ratio=settings.cat_max_ratio,
            hflip=settings.hflip,
            photometric=settings.photometric,
        )
        place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
        batches = TrainBatches(len(splits.train), batch_size=settings.batch_size, seed=settings.seed, **place)
        options: dict[str, Any] = {"workers": settings.workers, "pin_memory": accelerator.device.type == "cuda"}
        return (
            training_loader(splits.train, batches, transform=transform, seed=settings.seed, **options),
            evaluation_loader(splits.val, preparation=preparation, **place, **options),
        )

    def head(self, model: nn.Module) -> nn.Module:
        """Neck and head."""
        assert isinstance(model, SemanticFPN)
        return nn.ModuleList([model.neck, model.decode_head])

    def facts(self, settings: SegmentSettings, model: nn.Module, splits: MaskFolders) -> Mapping[str, Any]:
        """The folders' layout, and how images are prepared."""
        assert isinstance(model, SemanticFPN)
        preparation = preparation_of(model, image_size=settings.image_size)
        return {
            "layout": splits.layout,
            "input": {
                "size": preparation.image_size,
                "mean": list(preparation.mean),
                "std": list(preparation.std),
            },
        }

    def title(self, settings: SegmentSettings) -> str:
        """Kind, backbone, and the size of its crops."""
        return f"Semantic FPN on {settings.model} from {settings.start}, crops of {settings.image_size} px"

    def notes(self, settings: SegmentSettings, splits: MaskFolders) -> tuple[str, ...]:
        """What the loss is divided by, and advice for a run from scratch."""
        divided = "all pixels, as published" if settings.loss == "all" else "the pixels with a label"
        return f"loss over {divided}", settings.advice


def build_for(settings: SegmentSettings, num_classes: int, *, weights: bool = True) -> SemanticFPN:
    """The segmenter of a run; its starting weights are not needed when a state follows.

    Raises:
        RecNextError: the weights are none, or do not fit.
    """
    arguments: dict[str, Any] = {
        "num_classes": num_classes,
        "neck_channels": settings.neck_channels,
        "head_channels": settings.head_channels,
        "dropout": settings.dropout,
        "backbone_args": settings.model_args,
    }
    checkpoint = settings.checkpoint if weights else None
    if checkpoint is None or "decode_head.conv_seg.weight" not in read_weights(checkpoint).state:
        pretrained = settings.pretrained and weights and not checkpoint
        return build(settings.model, checkpoint=checkpoint, pretrained=pretrained, **arguments)
    loaded = load(checkpoint, backbone=settings.model, **settings.model_args)
    model = build(settings.model, **arguments)
    state = loaded.state_dict()
    if loaded.num_classes != num_classes:
        state = {key: value for key, value in state.items() if not key.startswith("decode_head.conv_seg.")}
    try:
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise RecNextError(f"{checkpoint} does not fit --neck-channels and --head-channels: {reason}") from None
    return model
