"""`recnext.tasks.segmentation.load`: a segmenter with weights from a published checkpoint or a run of ours."""

from os import PathLike, fspath
from typing import Any, Optional, Union

import torch

from recnext.checkpoints.architecture import Architecture, read_architecture
from recnext.checkpoints.fitting import fill
from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.checkpoints.reading import Weights, read_weights
from recnext.errors import RecNextError
from recnext.nn.fusion import replace_batchnorm

from .model import SemanticFPN, build, check_backbone

_PREFIX = "backbone."
_SHOWN = 3  # tensors listed in an error


def is_segmenter(weights: Weights) -> bool:
    """Whether a file holds a segmenter, published or ours."""
    return "decode_head.conv_seg.weight" in weights.state


def load(
    checkpoint: Union[str, PathLike[str]],
    *,
    backbone: Optional[str] = None,
    num_classes: Optional[int] = None,
    fused: bool = False,
    ema: bool = False,
    device: Union[str, torch.device] = "cpu",
    **backbone_args: Any,
) -> SemanticFPN:
    """Reads a segmenter.

    Args:
        checkpoint: a published checkpoint (plain, or with optimiser and meta data around it), a run folder or weight
            file of ``recnext segment train``, or a hub id; pickles are read without running anything in them.
        backbone: timm name, such as ``recnext_m3``; by default what the checkpoint tells.
        num_classes: as many as the caller expects; None takes the checkpoint's.
        fused: fold every BatchNorm, for inference; folded files stay folded anyway.
        ema: the moving average of the weights instead of the weights.
        device: where the segmenter goes.
        **backbone_args: constructor arguments of the backbone, over those in the checkpoint's metadata.

    Returns:
        The segmenter in eval mode: normalised (N, 3, H, W) to logits at stride 4. ``class_names``, ``image_size`` and
        ``pretrained_cfg`` (mean, std) tell what the checkpoint knows.

    Raises:
        RecNextError: no such checkpoint, no segmenter in it, or another backbone or number of classes than asked for.
    """
    weights = read_weights(fspath(checkpoint), ema=ema)
    _require_segmenter(weights)
    found = read_architecture({k.removeprefix(_PREFIX): v for k, v in weights.state.items() if k.startswith(_PREFIX)})
    name = _backbone_name(backbone, weights, found)
    classes, head_channels = weights.state["decode_head.conv_seg.weight"].shape[:2]
    if num_classes is not None and num_classes != classes:
        raise RecNextError(f"{weights.source} tells {classes} classes apart, not {num_classes}")
    own = weights.metadata if weights.metadata and _base(weights.metadata.model) == _base(name) else None
    lateral = weights.state.get("neck.lateral_convs.0.conv.weight")
    arguments = dict(own.model_args) if own else {}
    if found is not None:
        arguments["in_chans"] = found.in_chans
    model = build(
        name,
        num_classes=classes,
        neck_channels=256 if lateral is None else lateral.shape[0],
        head_channels=head_channels,
        backbone_args={**arguments, **backbone_args},
    )
    if fused_state := "decode_head.scale_heads.0.0.bn.weight" not in weights.state:
        replace_batchnorm(model)
    fill(
        model,
        weights.state,
        source=weights.source,
        what=f"a Semantic FPN on {model.pretrained_cfg.get('architecture')}",
        hint="backbone",
    )
    if fused and not fused_state:
        replace_batchnorm(model.eval())
    if weights.metadata is not None:
        _describe(model, weights.metadata)
    return model.eval().to(device)


def _base(name: str) -> str:
    return name.partition(".")[0]


def _require_segmenter(weights: Weights) -> None:
    keys = weights.state
    if "decode_head.conv_seg.weight" in keys and any(key.startswith(_PREFIX) for key in keys):
        return
    if read_architecture(weights.state) is not None:
        raise RecNextError(
            f"{weights.source} is a classifier, not a segmenter: it has no decode_head; it can start the training of "
            "one (recnext segment train DATA --checkpoint)"
        )
    if any(key.startswith(("roi_head", "rpn", "roi_heads")) for key in keys):
        raise RecNextError(f"{weights.source} is a detector, not a segmenter: recnext.tasks.detection reads it")
    raise RecNextError(
        f"{weights.source} is no Semantic FPN: expected tensors backbone.*, neck.* and decode_head.*, got "
        f"{', '.join(list(keys)[:_SHOWN])}"
    )


def _backbone_name(given: Optional[str], weights: Weights, found: Optional[Architecture]) -> str:
    name = given or (weights.metadata.model if weights.metadata else found.name if found else None)
    if name is None:
        held = f"a backbone that is {found}" if found else "a backbone of an unknown kind"
        raise RecNextError(f"{weights.source} holds {held}: give backbone, the timm name it was made with")
    check_backbone(name)
    return name


def _describe(model: SemanticFPN, metadata: CheckpointMetadata) -> None:
    if metadata.class_names is not None and len(metadata.class_names) == model.num_classes:
        model.class_names = metadata.class_names
    model.image_size = metadata.input_size[1]
    model.pretrained_cfg.update(mean=metadata.mean, std=metadata.std)
