"""The network as published for deployment: what every speed-up is measured against."""

from copy import deepcopy

from timm.utils import reparameterize_model
from torch import nn

from recnext.nn.mixers.conv_norm import ConvNorm
from recnext.nn.models.base import RecNext
from recnext.nn.models.blocks import Classifier
from recnext.nn.models.partial_blocks import RepMixer


def plain_fusion(model: nn.Module) -> nn.Module:
    """A copy in eval mode with the published fusion only.

    Convolutions with their norm, the rep mixers and the heads become one layer each; the norms of M blocks and of
    M and A downsamples stay. Other networks than ours are reparameterised by timm.
    """
    copy = deepcopy(model).eval()
    if not isinstance(copy, RecNext):
        return reparameterize_model(copy, inplace=True)
    _replace(copy)
    return copy


def _replace(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, (ConvNorm, RepMixer, Classifier)):
            setattr(module, name, child.fuse())
        else:
            _replace(child)
