"""Detectors from files: the published ones by their own keys, and ours."""

from dataclasses import replace
from os import PathLike, fspath
from typing import Any, Optional, Union

import torch
from torch import Tensor

from recnext.checkpoints.architecture import read_architecture
from recnext.checkpoints.fitting import fill
from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.checkpoints.reading import Weights, read_weights
from recnext.errors import RecNextError
from recnext.nn.fusion import replace_batchnorm

from .config import TASK, DetectorConfig, coco_classes
from .model import Detector, build, make_config

State = dict[str, Tensor]
_PUBLISHED_KEY = "roi_head.bbox_head.fc_cls.weight"
_OWN_KEY = "roi_heads.box_predictor.cls_score.weight"
_COCO = 80

# beginnings of published keys, and of torchvision's
_RENAMED = (
    ("backbone.stages.", "backbone.body.stages_"),
    ("backbone.", "backbone.body."),
    ("rpn_head.rpn_conv.", "rpn.head.conv.0.0."),
    ("rpn_head.rpn_cls.", "rpn.head.cls_logits."),
    ("rpn_head.rpn_reg.", "rpn.head.bbox_pred."),
    ("roi_head.bbox_head.shared_fcs.0.", "roi_heads.box_head.fc6."),
    ("roi_head.bbox_head.shared_fcs.1.", "roi_heads.box_head.fc7."),
    ("roi_head.bbox_head.fc_cls.", "roi_heads.box_predictor.cls_score."),
    ("roi_head.bbox_head.fc_reg.", "roi_heads.box_predictor.bbox_pred."),
    ("roi_head.mask_head.upsample.", "roi_heads.mask_predictor.conv5_mask."),
    ("roi_head.mask_head.conv_logits.", "roi_heads.mask_predictor.mask_fcn_logits."),
)
# the same, where a convolution sits a level deeper: NAME.i.conv.weight becomes NEW.i.0.weight
_RENAMED_CONVS = (
    ("neck.lateral_convs.", "backbone.fpn.inner_blocks."),
    ("neck.fpn_convs.", "backbone.fpn.layer_blocks."),
    ("roi_head.mask_head.convs.", "roi_heads.mask_head."),
)
_UNUSED = ("backbone.head.",)  # a classifier left in the file


def load(
    checkpoint: Union[str, PathLike[str]],
    *,
    backbone: Optional[str] = None,
    num_classes: Optional[int] = None,
    ema: bool = False,
    device: Union[str, torch.device] = "cpu",
    **options: Any,
) -> Detector:
    """Reads a detector: published (MMDetection's keys, also inside ``state_dict``), or one of ours.

    Args:
        checkpoint: file, run folder or hub id; pickles are read without running anything in them.
        backbone: timm name; by default what the file says, or what its tensors are those of.
        num_classes: another number than the file's makes new class, box and mask predictors.
        ema: the moving average of the weights instead of the weights.
        device: where the detector goes.
        **options: fields of `DetectorConfig` that change no tensor, such as `min_size`.

    Returns:
        The detector, in eval mode. Published ones have COCO's class names.

    Raises:
        RecNextError: no such file, no detector in it, or another backbone than said.
    """
    weights = read_weights(fspath(checkpoint), ema=ema)
    state = _torchvision_keys(weights)
    config = _config_of(state, weights, backbone)
    new_classes = None if num_classes in (None, config.num_classes) else num_classes
    if new_classes is not None:
        config = replace(config, num_classes=new_classes, class_names=None, category_ids=None)
        state = {key: value for key, value in state.items() if "_predictor." not in key or "conv5_mask" in key}
    config = make_config(**{**vars(config), **options})
    model = build(config)
    found = read_architecture(_backbone_state(state))
    if found is not None and found.fusion != "unfused":
        replace_batchnorm(model)
    fill(
        model,
        state,
        source=weights.source,
        what=f"a detector on {config.backbone}",
        hint="the backbone's name",
        optional=() if new_classes is None else ("_predictor.",),
    )
    return model.eval().to(device)


def describe(model: Detector, *, epoch: Optional[int] = None) -> CheckpointMetadata:
    """The header of a detector's checkpoint."""
    config = model.config
    return CheckpointMetadata(
        model=config.backbone,
        num_classes=config.num_classes,
        model_args=config.to_dict(),
        class_names=config.class_names,
        input_size=(3, config.min_size, config.max_size),
        mean=tuple(model.transform.image_mean),
        std=tuple(model.transform.image_std),
        crop_pct=1.0,
        interpolation="bilinear",
        epoch=epoch,
    )


def is_detector(weights: Weights) -> bool:
    """Whether a file holds a detector, published or ours."""
    return _OWN_KEY in weights.state or _PUBLISHED_KEY in weights.state


def _torchvision_keys(weights: Weights) -> State:
    """The state dict under our keys.

    Raises:
        RecNextError: it is no detector.
    """
    if _OWN_KEY in weights.state:
        return weights.state
    if _PUBLISHED_KEY not in weights.state:
        what = "a classifier" if read_architecture(weights.state) else f"keys such as {next(iter(weights.state))!r}"
        raise RecNextError(
            f"{weights.source} holds {what}, no detector: expected {_PUBLISHED_KEY!r} (published) or {_OWN_KEY!r} "
            "(trained here); recnext.tasks.detection.create(..., checkpoint=...) starts from a backbone"
        )
    return from_published(weights.state, source=weights.source)


def from_published(state: State, *, source: str = "the checkpoint") -> State:
    """MMDetection's names and order of classes turned into torchvision's: the background moves from last to first.

    Raises:
        RecNextError: a tensor has no place.
    """
    renamed: State = {}
    for key, value in state.items():
        if key.startswith(_UNUSED):
            continue
        new = _renamed(key)
        if new is None:
            raise RecNextError(f"{source} has {key!r}, which is no part of a published Mask R-CNN: is it another one?")
        if ".cls_score." in new:
            value = torch.cat([value[-1:], value[:-1]])
        elif "box_predictor.bbox_pred." in new:
            value = torch.cat([torch.zeros_like(value[:4]), value])
        elif ".mask_fcn_logits." in new:
            value = torch.cat([torch.zeros_like(value[:1]), value])
        renamed[new] = value
    return renamed


def _renamed(key: str) -> Optional[str]:
    for old, new in _RENAMED_CONVS:
        if key.startswith(old):
            return new + key.removeprefix(old).replace(".conv.", ".0.")
    for old, new in _RENAMED:
        if key.startswith(old):
            return new + key.removeprefix(old)
    return None


def _backbone_state(state: State) -> State:
    """The backbone's tensors under the keys of its whole network."""
    prefix = "backbone.body."
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {key.replace("stages_", "stages.", 1) if key.startswith("stages_") else key: v for key, v in own.items()}


def _config_of(state: State, weights: Weights, backbone: Optional[str]) -> DetectorConfig:
    """What the header and the shapes tell; the shapes of new classes come from the caller."""
    metadata = weights.metadata
    known: dict[str, Any] = {}
    if metadata is not None and metadata.model_args.get("task") == TASK:
        known = {key: value for key, value in metadata.model_args.items() if key != "task"}
        known |= {"backbone": metadata.model, "class_names": metadata.class_names}
        if known.get("category_ids") is not None:
            known["category_ids"] = tuple(known["category_ids"])
    found = read_architecture(_backbone_state(state))
    name = known.get("backbone") or (found.name if found else None)
    if backbone is not None and name is not None and backbone.partition(".")[0] != name:
        raise RecNextError(f"{weights.source} has the backbone {name}, not {backbone}: give backbone={name!r}, or none")
    if name is None and backbone is None:
        raise RecNextError(f"{weights.source} does not say which backbone it has: give backbone='recnext_...'")
    known["backbone"] = name or backbone
    known |= {
        "num_classes": state[_OWN_KEY].shape[0] - 1,
        "box_features": state[_OWN_KEY].shape[1],
        "masks": "roi_heads.mask_predictor.mask_fcn_logits.weight" in state,
        "channels": state["rpn.head.cls_logits.weight"].shape[1] if "rpn.head.cls_logits.weight" in state else 256,
    }
    if known["masks"]:
        known["mask_layers"] = sum(key.startswith("roi_heads.mask_head.") and key.endswith("weight") for key in state)
    if not known.get("class_names") and known["num_classes"] == _COCO:
        known["class_names"], known["category_ids"] = coco_classes()
    return make_config(**{key: value for key, value in known.items() if key in DetectorConfig.__dataclass_fields__})
