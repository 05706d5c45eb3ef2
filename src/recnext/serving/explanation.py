"""Grad-CAM of a served network, by the grad-cam package (the `explain` extra)."""

import io
from importlib.util import find_spec
from typing import Any, Optional

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

_LEAST_SIDE = 4  # pixels of a map that can still show a place
_STRENGTH = 0.55  # of the colours over the image
_COLD, _WARM, _HOT = "#140b34", "#b6367a", "#fcfdbf"  # lightness grows with heat, for those who see no hue


def can_explain(network: nn.Module) -> bool:
    """Whether the package is installed and the network has stages to look at."""
    return find_spec("pytorch_grad_cam") is not None and isinstance(getattr(network, "stages", None), nn.Sequential)


def heat_map(network: nn.Module, x: Tensor, *, label: Optional[int] = None) -> Tensor:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391) of the last stage whose map still has places.

    Args:
        network: a classifier with ``stages``, in eval mode.
        x: (1, C, H, W) normalised.
        label: index of the class; by default the likeliest.

    Returns:
        (H, W) float32 in 0..1.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = None if label is None else [ClassifierOutputTarget(label)]
    with torch.enable_grad(), GradCAM(network, [_stage(network, x)]) as method:
        shown = method(input_tensor=x.clone().requires_grad_(), targets=targets)[0]
    network.zero_grad(set_to_none=True)
    return torch.from_numpy(np.nan_to_num(shown).astype(np.float32))


@torch.no_grad()
def _stage(network: Any, x: Tensor) -> nn.Module:
    """The last stage with a map of at least 4x4, or the first."""
    maps = network.forward_intermediates(x, intermediates_only=True)
    usable = [index for index, part in enumerate(maps) if min(part.shape[2:]) >= _LEAST_SIDE]
    return network.stages[usable[-1] if usable else 0]


def overlay(image: Tensor, heat: Tensor) -> bytes:
    """Draws a heat map over the image it belongs to.

    Args:
        image: uint8 (1 or 3, H, W).
        heat: (H, W) in 0..1.

    Returns:
        A PNG file.
    """
    picture = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
    heated = Image.fromarray((255 * heat.clamp(0, 1)).round().to(torch.uint8).numpy())
    colours = ImageOps.colorize(heated, black=_COLD, mid=_WARM, white=_HOT)
    file = io.BytesIO()
    Image.blend(picture, colours, _STRENGTH).save(file, "PNG")
    return file.getvalue()
