"""Rewriting before export: equal outputs, in the channel order of the original."""

import pytest
import timm
import torch
from torch import nn

import recnext
from recnext.deploy.optimize.expanding import ExpandingDepthwise
from recnext.deploy.optimize.lowering import lower


@pytest.mark.parametrize(("times", "stride", "bias", "dilation"), [(2, 2, True, 1), (2, 1, False, 2), (3, 2, True, 1)])
def test_an_expanding_depthwise_convolution_is_equal(times, stride, bias, dilation):
    conv = nn.Conv2d(6, 6 * times, 5, stride=stride, padding=2, groups=6, bias=bias, dilation=dilation).double()
    x = torch.randn(2, 6, 11, 9, dtype=torch.float64)
    torch.testing.assert_close(ExpandingDepthwise(conv)(x), conv(x), rtol=1e-12, atol=1e-12)


def test_every_expanding_convolution_of_a_network_is_replaced_and_outputs_stay():
    model = recnext.fuse(timm.create_model("test_recnext_m").eval())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        lowered = lower(model)
        got = lowered(x)
    found = [module for module in lowered.modules() if isinstance(module, ExpandingDepthwise)]
    assert len(found) == 3  # one a downsample
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_other_convolutions_stay():
    kept = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(1, 8, 3))
    assert [type(module) for module in lower(kept)] == [nn.Conv2d] * 3
