"""Exact rewriting of networks for the CPU runtimes, before they are exported."""

from torch import nn

from .channel_order import order_channels
from .expanding import ExpandingDepthwise
from .parted import keep_parted


def _expands(module: nn.Module) -> bool:
    return type(module) is nn.Conv2d and module.groups == module.in_channels > 1 and module.out_channels > module.groups


def lower(model: nn.Module) -> nn.Module:
    """Replaces what the runtimes are slow at, in place, and returns the model; outputs stay equal.

    Args:
        model: fused, in eval mode.
    """
    return _lowered(order_channels(model))


def _lowered(model: nn.Module) -> nn.Module:
    for name, child in list(model.named_children()):
        if _expands(child):
            assert isinstance(child, nn.Conv2d)
            setattr(model, name, ExpandingDepthwise(child))
        else:
            setattr(model, name, keep_parted(_lowered(child)))
    return model
