"""Exact rewriting of the M series: channels in the order in which depthwise convolutions give them.

A downsampling convolution has two outputs for each input, side by side; the runtimes compute all first ones, then
all second ones. Instead of sorting the maps at every image, the weights of the stage behind are sorted once: each
layer of an M network works on channels one by one or takes all of them, so that any order will do.
"""

from typing import cast

import torch
from torch import Tensor, nn

from recnext.nn.mixers import RecConv2d
from recnext.nn.models.blocks import Stage
from recnext.nn.models.recnext_m import RecConvBlock, RecConvDownsample, RecNextM

from .expanding import ExpandingDepthwise


@torch.no_grad()
def order_channels(model: nn.Module) -> nn.Module:
    """Sorts the channels of every stage, in place, and returns the model; outputs stay equal.

    Networks of other families, with other token mixers, or without a classifier, whose outputs are the channels
    themselves, stay as they are.

    Args:
        model: fused, in eval mode.
    """
    if not isinstance(model, RecNextM) or model.global_pool != "avg" or not isinstance(model.head, nn.Linear):
        return model
    stages = cast(list[Stage], list(model.stages))
    if not all(map(_plain, stages)):
        return model
    order = torch.arange(model.feature_info[0]["num_chs"])
    for stage in stages:
        if isinstance(stage.downsample, RecConvDownsample):
            expanding = ExpandingDepthwise(stage.downsample.token_mixer, order)
            setattr(stage.downsample, "token_mixer", expanding)  # noqa: B010 (declared as a Conv2d)
            order = expanding.outputs
            _sort_mixer(stage.downsample.channel_mixer, order)
        for block in cast(list[RecConvBlock], list(stage.blocks)):
            mixer = cast(RecConv2d, block.token_mixer)
            for conv in (mixer.down, *mixer.convs):
                _sort_outputs(cast(nn.Conv2d, conv), order)
            _sort_mixer(block.channel_mixer, order)
    model.head.weight.copy_(model.head.weight[:, order])
    return model


def _plain(stage: Stage) -> bool:
    """Whether a stage is built of the layers that are sorted here."""
    down = stage.downsample
    if not isinstance(down, nn.Identity) and not (
        isinstance(down, RecConvDownsample) and isinstance(down.norm, nn.Identity)
    ):
        return False
    return all(
        isinstance(block, RecConvBlock) and isinstance(block.norm, nn.Identity) and type(block.token_mixer) is RecConv2d
        for block in stage.blocks
    )


def _sort_outputs(conv: nn.Conv2d, order: Tensor) -> None:
    conv.weight.copy_(conv.weight[order])
    if conv.bias is not None:
        conv.bias.copy_(conv.bias[order])


def _sort_mixer(mixer: nn.Module, order: Tensor) -> None:
    """A channel mixer that reads and writes sorted channels."""
    expand, _, project = mixer.children()
    assert isinstance(expand, nn.Conv2d)
    assert isinstance(project, nn.Conv2d)
    expand.weight.copy_(expand.weight[:, order])
    _sort_outputs(project, order)
