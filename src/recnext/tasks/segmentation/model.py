"""Semantic FPN on a RecNeXt: backbone, neck, head."""

from collections.abc import Mapping
from typing import Any, Optional

import timm
from torch import Tensor, nn

from recnext.checkpoints import load as load_backbone
from recnext.checkpoints.loading import check_name
from recnext.errors import RecNextError
from recnext.nn.models import RecNext

from .decoder import FPN, SemanticHead

NUM_CLASSES = 150  # of ADE20K
IMAGE_SIZE = 512  # of the published crops


class SemanticFPN(nn.Module):
    """Per-pixel classifier as published for RecNeXt on ADE20K (arXiv 2412.19628), with the published keys.

    Args:
        backbone: a RecNeXt without classifier.
        num_classes: of the logits.
        neck_channels: width of the pyramid.
        head_channels: width of the head.
        dropout: share of the head's channels dropped while training.

    Attributes:
        stride: pixels of the image a side of each place of the logits.
        class_names: in the order of the logits, where known.
        image_size: of its training crops; 512 where the weights do not tell, as published.

    Shape:
        (N, in_chans, H, W) normalised to logits (N, num_classes, H / 4, W / 4), rounded up; H / 8 and W / 8 in the L
        series, whose first map has stride 8.
    """

    def __init__(
        self,
        backbone: RecNext,
        *,
        num_classes: int = NUM_CLASSES,
        neck_channels: int = 256,
        head_channels: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        widths = [int(info["num_chs"]) for info in backbone.feature_info]
        self.stride = int(backbone.feature_info[0]["reduction"])
        self.neck = FPN(widths, neck_channels)
        self.decode_head = SemanticHead(len(widths), neck_channels, head_channels, num_classes, dropout)
        self.num_classes = num_classes
        self.class_names: Optional[tuple[str, ...]] = None
        self.image_size = IMAGE_SIZE
        self.pretrained_cfg: dict[str, Any] = dict(backbone.pretrained_cfg)  # type: ignore[call-overload, operator, arg-type]

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone.forward_intermediates(x, intermediates_only=True)
        assert isinstance(maps, list)
        return self.decode_head(self.neck(maps))


def build(
    backbone: str,
    *,
    num_classes: int = NUM_CLASSES,
    checkpoint: Optional[str] = None,
    pretrained: bool = False,
    neck_channels: int = 256,
    head_channels: int = 128,
    dropout: float = 0.1,
    backbone_args: Optional[Mapping[str, Any]] = None,
) -> SemanticFPN:
    """A segmenter whose neck and head are new.

    Args:
        backbone: timm name of a RecNeXt of the M, A or L series.
        num_classes: of the logits, at least 2.
        checkpoint: weights of the backbone: those of a classifier, from anywhere that `recnext.load` reads.
        pretrained: the published ImageNet weights of `backbone`.
        neck_channels: width of the pyramid.
        head_channels: width of the head.
        dropout: share of the head's channels dropped while training.
        backbone_args: constructor arguments of the backbone. Drop path is off unless they say otherwise, as published.

    Raises:
        RecNextError: no such backbone, one of another family, fewer than two classes, or weights that do not fit.
    """
    check_backbone(backbone)
    if num_classes < 2:
        raise RecNextError(f"num_classes={num_classes}: a segmenter tells at least two classes apart")
    arguments = {"drop_path_rate": 0.0, **(backbone_args or {})}
    network = load_backbone(
        backbone, checkpoint=checkpoint, pretrained=pretrained, num_classes=0, fused=False, **arguments
    )
    assert isinstance(network, RecNext)
    return SemanticFPN(
        network,
        num_classes=num_classes,
        neck_channels=neck_channels,
        head_channels=head_channels,
        dropout=dropout,
    )


def check_backbone(name: str) -> None:
    """Raises RecNextError unless `name` is a RecNeXt of the M, A or L series."""
    check_name(name)
    base = name.partition(".")[0]
    if base not in {*timm.list_models("recnext_*"), *timm.list_models("test_recnext_*")}:
        raise RecNextError(f"{name} is no RecNeXt: the segmenter takes recnext_m*, recnext_a* or recnext_{{t,s,b}}*")
