"""Mask R-CNN on a feature pyramid: the published detectors, and the like of any size and number of classes."""

from collections.abc import Mapping
from os import PathLike
from typing import Any, Optional, Union

import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from recnext.checkpoints import load as load_backbone
from recnext.checkpoints.loading import check_name
from recnext.checkpoints.metadata import IMAGENET_MEAN, IMAGENET_STD
from recnext.errors import RecNextError

from .config import DetectorConfig
from .network.anchors import Anchors
from .network.proposals import ProposalNetwork
from .network.pyramid import PyramidBackbone
from .network.resize import PublishedTransform
from .network.roi import RoIHeads, RoIPool

_RECNEXT_STAGES = (0, 1, 2, 3)


class Detector(GeneralizedRCNN):
    """Mask R-CNN, or Faster R-CNN without masks, that computes what MMDetection 2.28's does.

    Takes a list of images (3, H, W) in 0..1 of any sizes. In evaluation it gives a dictionary an image: ``boxes``
    (N, 4) x1, y1, x2, y2 in pixels, ``labels`` (N,) from 1, ``scores`` (N,), the best first, and ``masks``
    (N, 1, H, W) bool. In training it also takes such dictionaries (masks (N, H, W) of 0 and 1) and gives the losses.
    ``transform.min_size`` and ``transform.max_size`` may be changed.

    Args:
        body: a ``features_only`` backbone.
        config: of the rest.
    """

    def __init__(self, body: nn.Module, config: DetectorConfig) -> None:
        backbone = PyramidBackbone(body, channels=config.channels)
        anchors = Anchors(backbone.strides, scale=config.anchor_scale)
        outputs, pooled = config.num_classes + 1, backbone.strides[:-1]
        heads = RoIHeads(
            RoIPool(pooled, size=7),
            TwoMLPHead(config.channels * 49, config.box_features),
            FastRCNNPredictor(config.box_features, outputs),
            mask_roi_pool=RoIPool(pooled, size=14) if config.masks else None,
            mask_head=MaskRCNNHeads(config.channels, (config.channels,) * config.mask_layers, 1)
            if config.masks
            else None,
            mask_predictor=MaskRCNNPredictor(config.channels, config.channels, outputs) if config.masks else None,
            samples=config.roi_samples,
        )
        preparation: Mapping[str, Any] = getattr(body, "pretrained_cfg", None) or {}
        transform = PublishedTransform(
            config.min_size,
            config.max_size,
            list(preparation.get("mean", IMAGENET_MEAN)),
            list(preparation.get("std", IMAGENET_STD)),
        )
        first = ProposalNetwork(anchors, channels=config.channels, proposals=config.proposals)
        super().__init__(backbone, first, heads, transform)
        self.config = config
        _initialise(heads)

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each class, that of label 1 first."""
        return self.config.labels


@torch.no_grad()
def _initialise(heads: RoIHeads) -> None:
    """As published: Xavier for the box layers, small scores and codes."""
    for layer in (heads.box_head.fc6, heads.box_head.fc7):
        nn.init.xavier_uniform_(layer.weight)  # type: ignore[union-attr, arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[union-attr, arg-type]
    for layer, deviation in ((heads.box_predictor.cls_score, 0.01), (heads.box_predictor.bbox_pred, 0.001)):
        nn.init.normal_(layer.weight, std=deviation)  # type: ignore[union-attr, arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[union-attr, arg-type]


def create(
    backbone: str = "recnext_m3",
    *,
    num_classes: int = 80,
    masks: bool = True,
    pretrained: bool = False,
    checkpoint: Optional[Union[str, PathLike[str]]] = None,
    device: Union[str, torch.device] = "cpu",
    **options: Any,
) -> Detector:
    """Builds a detector whose pyramid and heads are new.

    Args:
        backbone: timm name: any RecNeXt of the M, A or L series, or any network with ``features_only``.
        num_classes: classes, without the background.
        masks: predict masks too (Mask R-CNN; without, Faster R-CNN).
        pretrained: start from the backbone's published ImageNet weights.
        checkpoint: start from these weights of the backbone: file, run folder or hub id.
        device: where the detector goes.
        **options: further fields of `DetectorConfig`: sizes, class names, `backbone_args`.

    Returns:
        The detector, in eval mode.

    Raises:
        RecNextError: no such backbone or weights, an option out of range, or a backbone without the strides needed.
    """
    config = make_config(backbone=backbone, num_classes=num_classes, masks=masks, **options)
    return build(config, pretrained=pretrained, checkpoint=checkpoint, device=device)


def make_config(**options: Any) -> DetectorConfig:
    """A configuration; an unknown option is the user's mistake.

    Raises:
        RecNextError: an option is not known, or out of range.
    """
    known = DetectorConfig.__dataclass_fields__
    for name in options:
        if name not in known:
            raise RecNextError(f"a detector has no option {name!r}: expected {', '.join(known)}")
    return DetectorConfig(**options)


def build(
    config: DetectorConfig,
    *,
    pretrained: bool = False,
    checkpoint: Optional[Union[str, PathLike[str]]] = None,
    device: Union[str, torch.device] = "cpu",
) -> Detector:
    """`create` from a whole configuration; `num_classes` 0 of the backbone leaves its head out."""
    check_name(config.backbone)
    stages = _RECNEXT_STAGES if "recnext" in config.backbone else None
    body = load_backbone(
        config.backbone,
        checkpoint=checkpoint,
        pretrained=pretrained,
        fused=False,
        features_only=True,
        out_indices=stages,
        num_classes=0,
        **config.backbone_args,
    )
    return Detector(body, config).eval().to(device)
