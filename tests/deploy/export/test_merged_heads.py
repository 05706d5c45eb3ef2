"""Attention as LiteRT gets it is the attention that it was."""

import pytest
import timm
import torch

from recnext.deploy.export.merged_heads import MergedHeads, merge_heads
from recnext.nn.mixers import LinearAttention


@pytest.mark.parametrize("side", [3, 9])  # both orders of multiplication
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("kernel", ["elu", "softplus", "softmax"])
def test_nothing_changes(kernel: str, heads: int, side: int) -> None:
    torch.manual_seed(0)
    layer = LinearAttention(16, heads, kernel=kernel).eval()
    x = torch.randn(2, 16, side, side + 1)
    with torch.no_grad():
        torch.testing.assert_close(MergedHeads(layer)(x), layer(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["test_recnext_a", "test_recnext_l", "test_recnext_m"])
def test_networks_keep_their_outputs(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5).eval()
    layers = sum(isinstance(layer, LinearAttention) for layer in network.modules())
    x = torch.randn(2, 3, 56, 72)
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(merge_heads(network)(x), expected, rtol=0, atol=1e-6)
    assert sum(isinstance(layer, MergedHeads) for layer in network.modules()) == layers
    assert (layers > 0) == (name != "test_recnext_m")
