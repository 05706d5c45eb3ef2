"""Grad-CAM: the places of an image that speak for a class, by the grad-cam package (the `explain` extra)."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor, nn

from recnext.errors import MissingExtraError, RecNextError
from recnext.nn.stage_map import stage_map

_LEAST_SIDE = 4  # positions of a map that can still show a place


def default_stage(model: nn.Module, images: Tensor) -> int:
    """The last stage whose map has at least 4x4 positions; small images leave too few in the last one.

    Args:
        model: of timm, with ``feature_info``.
        images: (N, C, H, W), normalised.

    Raises:
        RecNextError: the network names no stages, or gives no maps for such images.
    """
    count = len(_modules(model))
    with torch.no_grad():
        for stage in reversed(range(count)):
            if min(stage_map(model, images[:1], stage=stage).shape[2:]) >= _LEAST_SIDE:
                return stage
    return 0


def class_activation_maps(
    model: nn.Module, image: Tensor, classes: Sequence[int], *, stage: Optional[int] = None
) -> Tensor:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391) of several classes for one image.

    Args:
        model: a classifier of timm, put into eval mode.
        image: (1, C, H, W), normalised, on its device.
        classes: indices of outputs.
        stage: whose map is weighed; by default as of `default_stage`.

    Returns:
        (classes, H, W) float32 in 0..1 on the CPU, each map scaled by itself; zero where nothing speaks for a class.

    Raises:
        MissingExtraError: grad-cam is not installed.
        RecNextError: the network has no such stage or classes.
    """
    if find_spec("pytorch_grad_cam") is None:
        raise MissingExtraError("grad-cam", "explain", "Grad-CAM")
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    modules = _modules(model)
    stage = default_stage(model, image) if stage is None else stage
    if not -len(modules) <= stage < len(modules):
        raise RecNextError(f"stage {stage}: this network has {len(modules)}, counted from 0")
    outputs = int(getattr(model, "num_classes", 0) or 0)
    unknown = [index for index in classes if not 0 <= index < outputs]
    if unknown:
        raise RecNextError(f"class {unknown[0]}: this network has {outputs} classes, counted from 0")
    with torch.no_grad():
        channels, rows, columns = stage_map(model, image, stage=stage).shape[1:]
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    module = modules[stage]
    if prefix > 0:  # the last block's own output reaches the class token's head without its patches
        module = getattr(module, "norm1", module)

    def as_map(features: Tensor) -> Tensor:
        if features.ndim == 3:
            return features[:, prefix:].transpose(1, 2).unflatten(2, (rows, columns))
        return features if features.shape[1:] == (channels, rows, columns) else features.permute(0, 3, 1, 2)

    found = []
    with torch.enable_grad(), GradCAM(model, [module], reshape_transform=as_map) as method:
        for index in classes:
            heat = method(input_tensor=image.clone().requires_grad_(), targets=[ClassifierOutputTarget(index)])
            found.append(torch.from_numpy(np.nan_to_num(heat[0]).astype(np.float32)))
    model.zero_grad(set_to_none=True)
    return torch.stack(found)


def _modules(model: nn.Module) -> list[nn.Module]:
    """The modules that end the stages, as timm's ``feature_info`` names them."""
    info: Any = getattr(model, "feature_info", None)
    names = [str(item["module"]) for item in getattr(info, "info", info) or []]
    known = dict(model.named_modules())
    if not names or not all(name in known for name in names):
        raise RecNextError(f"{type(model).__name__} does not name the modules of its stages: take a timm network")
    return [known[name] for name in names]
