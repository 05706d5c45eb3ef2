"""Grad-CAM of a served network (the `explain` extra), and how it is drawn."""

import io
from importlib.util import find_spec
from typing import Optional

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from recnext.tasks.classification.activation_maps import class_activation_maps

_STRENGTH = 0.55  # of the colours over the image
_COLD, _WARM, _HOT = "#140b34", "#b6367a", "#fcfdbf"  # lightness grows with heat, for those who see no hue


def can_explain(network: nn.Module) -> bool:
    """Whether the package is installed and the network has stages to look at."""
    return find_spec("pytorch_grad_cam") is not None and hasattr(network, "feature_info")


def heat_map(network: nn.Module, x: Tensor, *, label: Optional[int] = None) -> Tensor:
    """Grad-CAM of a class, as `recnext.tasks.classification.activation_maps` computes it.

    Args:
        network: a classifier.
        x: (1, C, H, W) normalised, on its device.
        label: index of the class; by default the likeliest.

    Returns:
        (H, W) float32 in 0..1.
    """
    if label is None:
        with torch.no_grad():
            label = int(network(x).argmax())
    return class_activation_maps(network, x, [label])[0]


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
