"""Attention with merged feature maps against LinearAttention as it is."""

import pytest
import torch

from recnext.deploy.optimize.lowering import lower
from recnext.deploy.optimize.merged_features import MergedFeatures, merge_features
from recnext.nn.fusion import fuse
from recnext.nn.mixers import LinearAttention, RecAttn2d


def trained(attention):
    for module in attention.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return fuse(torch.nn.Sequential(attention.eval()))[0]


@pytest.mark.parametrize("kernel", ["elu", "softplus", "relu"])
@pytest.mark.parametrize(("heads", "half_width"), [(1, False), (4, False), (2, True)])
@pytest.mark.parametrize("size", [(2, 3), (9, 8)])  # either order of the products
def test_outputs_are_equal(kernel, heads, half_width, size):
    torch.manual_seed(0)
    attention = trained(LinearAttention(16, heads, half_width=half_width, kernel=kernel).double())
    x = torch.randn(2, 16, *size, dtype=torch.float64)
    torch.testing.assert_close(MergedFeatures(attention)(x), attention(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reduced_precision_is_computed_in_float32(dtype):
    torch.manual_seed(0)
    attention = trained(LinearAttention(16, 2)).to(dtype)
    x = (torch.randn(1, 16, 9, 8) * 30).to(dtype)
    torch.testing.assert_close(MergedFeatures(attention)(x), attention(x), rtol=0, atol=0)


def test_softmax_and_other_modules_stay():
    softmax = LinearAttention(16, 2, kernel="softmax")
    assert merge_features(softmax) is softmax
    assert isinstance(lower(trained(RecAttn2d(16))).down[1], MergedFeatures)


def test_an_export_with_any_size_takes_the_order_it_was_told():
    for kv_first in (True, False):
        attention = trained(LinearAttention(16, 2, kv_first=kv_first))
        sizes = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
        x = torch.randn(2, 16, 9, 8)
        program = torch.export.export(MergedFeatures(attention), (x,), dynamic_shapes=(sizes,))
        for other in (x, torch.randn(2, 16, 3, 3)):
            torch.testing.assert_close(program.module()(other), attention(other), rtol=1e-4, atol=1e-5)
