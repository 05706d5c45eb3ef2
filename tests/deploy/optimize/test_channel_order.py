"""Networks with sorted channels give what they gave; in float64."""

import pytest
import timm
import torch
from torch import nn

import recnext
from deploy.optimize.networks import trained
from recnext.deploy.optimize.channel_order import order_channels
from recnext.deploy.optimize.expanding import ExpandingDepthwise
from recnext.deploy.optimize.lowering import lower

TINY = {"embed_dim": (8, 16, 32, 64), "depths": (1, 2, 1, 1), "num_classes": 5}


def sorted_convolutions(model):
    return [m for m in model.modules() if isinstance(m, ExpandingDepthwise) and not m.interleave]


@pytest.mark.parametrize("times", [2, 3])
def test_a_convolution_takes_and_gives_an_order(times):
    conv = nn.Conv2d(5, 5 * times, 3, stride=2, padding=1, groups=5).double()
    x = torch.randn(2, 5, 9, 8, dtype=torch.float64)
    order = torch.randperm(5)
    expanding = ExpandingDepthwise(conv, order)
    torch.testing.assert_close(expanding(x[:, order]), conv(x)[:, expanding.outputs], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [64, 97])
def test_outputs_stay(size):
    model = recnext.fuse(trained("recnext_m0", **TINY).double())
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        got = lower(model)(x)
    assert len(sorted_convolutions(model)) == 3
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_recnext_m", {"num_classes": 0}),
        ("test_recnext_m", {"features_only": True}),
        ("test_recnext_m", {"global_pool": ""}),
        ("test_recnext_m", {"token_mixer": "rec_7x7_nearest_recurrent"}),
        ("test_recnext_a", {}),
        ("resnet10t", {}),
    ],
)
def test_networks_whose_channels_are_seen_or_mixed_otherwise_stay(name, options):
    model = recnext.fuse(trained(name, **options).double())
    assert order_channels(model) is model
    assert sorted_convolutions(model) == []


def test_unfused_networks_stay():
    model = timm.create_model("test_recnext_m").eval()
    assert sorted_convolutions(order_channels(model)) == []
