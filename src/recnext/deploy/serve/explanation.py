"""Whether a served network can be explained (the `explain` extra), and how a heat map is drawn."""

import io
from importlib.util import find_spec

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

_STRENGTH = 0.55  # of the colours over the image
_COLD, _WARM, _HOT = "#140b34", "#b6367a", "#fcfdbf"  # lightness grows with heat, for those who see no hue


def can_explain(network: nn.Module) -> bool:
    """Whether the package is installed and the network has stages to look at."""
    return find_spec("pytorch_grad_cam") is not None and hasattr(network, "feature_info")


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
