"""Blocks with their parts kept parted, against the blocks as they are, in float64."""

import pytest
import timm
import torch
from torch import nn

import recnext
from deploy.optimize.networks import trained
from recnext.deploy.optimize.expanding import outputs_of
from recnext.deploy.optimize.lowering import lower
from recnext.deploy.optimize.parted import PartedBlock, PartedBlocks, keep_parted

TINY = {"embed_dim": (16, 32, 48, 64), "depths": (0, 1, 2, 6)}


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(12, 12, 3, stride=2, padding=1, groups=12), nn.Conv2d(8, 12, 1, bias=False)]
)
def test_some_outputs_of_a_convolution(conv):
    x = torch.randn(2, conv.in_channels, 5, 4)
    given = x[:, 3:8] if conv.groups > 1 else x
    torch.testing.assert_close(outputs_of(conv, torch.arange(3, 8))(given), conv(x)[:, 3:8], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("share_channel", "blocks"), [(False, 9), (True, 9)])
@pytest.mark.parametrize("size", [64, 130])
def test_networks_of_the_series_are_equal(share_channel, blocks, size):
    model = trained("recnext_t", num_classes=7, share_channel=share_channel, **TINY).double()
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        lowered = lower(recnext.fuse(model))
        got = lowered(x)
    assert sum(isinstance(module, PartedBlock) for module in lowered.modules()) == blocks
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_maps_of_a_backbone_are_equal():
    model = trained("test_recnext_l", features_only=True).double()
    x = torch.randn(1, 3, 96, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        got = lower(recnext.fuse(model))(x)
    for one, truth in zip(got, expected, strict=True):
        torch.testing.assert_close(one, truth, rtol=1e-9, atol=1e-9)


def test_unfused_blocks_and_other_stages_stay():
    unfused = timm.create_model("test_recnext_l").stages[1]
    assert keep_parted(unfused) is unfused
    other = recnext.fuse(timm.create_model("test_recnext_m").eval()).stages[1]
    assert keep_parted(other) is other


def test_a_stage_is_parted_and_joined_once():
    stage = recnext.fuse(timm.create_model("test_recnext_l").eval()).stages[2]
    downsample, blocks = keep_parted(stage)
    assert downsample is stage.downsample
    assert isinstance(blocks, PartedBlocks)
