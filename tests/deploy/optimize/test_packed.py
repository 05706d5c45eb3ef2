"""Packed convolutions against the same convolutions of PyTorch, in float64 where PyTorch is the oracle."""

from copy import deepcopy

import pytest
import timm
import torch
from torch import nn

import recnext
from recnext.deploy.optimize import eager
from recnext.deploy.optimize.network import prepare, relative_error
from recnext.deploy.optimize.packed import PackedConv2d, can_pack, pack

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not can_pack(CPU, torch.float32), reason="this PyTorch cannot pack weights")


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False),
        nn.Conv2d(16, 32, 7, stride=2, padding=3, groups=16),
        nn.Conv2d(12, 20, 1),
        nn.Conv2d(12, 20, 3, dilation=2, groups=2),
    ],
)
@pytest.mark.parametrize("size", [(9, 7), (1, 8), (16, 16)])
def test_a_packed_convolution_is_equal_for_the_shape_packed_for_and_for_others(conv, size):
    conv = deepcopy(conv).to(memory_format=torch.channels_last).requires_grad_(False)
    packed = PackedConv2d(conv, (2, conv.in_channels, 9, 7))
    x = channels_last(torch.randn(3, conv.in_channels, *size))
    if min(size) + 2 * conv.padding[0] <= conv.dilation[0] * (conv.kernel_size[0] - 1):
        pytest.skip("PyTorch does not take maps smaller than the kernel")
    expected = deepcopy(conv).double()(x.double())
    torch.testing.assert_close(packed(x).double(), expected, rtol=1e-4, atol=1e-5)
    assert packed(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("activation", [nn.GELU(), nn.GELU("tanh"), nn.ReLU()])
def test_the_activation_behind_is_computed_with_it(activation):
    model = nn.Sequential(nn.Conv2d(8, 16, 1), activation, nn.Conv2d(16, 8, 1)).requires_grad_(False)
    model = model.to(memory_format=torch.channels_last)
    x = channels_last(torch.randn(2, 8, 6, 5))
    expected = model(x)
    packed = pack(deepcopy(model), x)
    assert [type(part) for part in packed] == [PackedConv2d, nn.Identity, PackedConv2d]
    torch.testing.assert_close(packed(x), expected, rtol=1e-4, atol=1e-5)


def test_activations_that_are_unknown_or_elsewhere_stay():
    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(8, 8, 1), nn.ReLU()

        def forward(self, x):
            return self.conv(self.act(x))

    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.SiLU(), Reversed()).requires_grad_(False)
    x = channels_last(torch.randn(1, 8, 4, 4))
    expected = model(x)
    torch.testing.assert_close(pack(deepcopy(model), x)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_recnext_m", "test_recnext_a", "test_recnext_l", "resnet10t"])
def test_networks_keep_their_outputs_at_other_sizes_and_batches(name):
    model = timm.create_model(name).eval()
    run = recnext.optimize(model, torch.randn(1, 3, 64, 64), backend="torch", precision="fp32")
    for shape in [(1, 3, 64, 64), (3, 3, 96, 71)]:
        x = torch.randn(shape)
        with torch.no_grad():
            assert relative_error([run(x)], [model(x)]) < 1e-4


def runner_parts(monkeypatch, broken):
    network = prepare(timm.create_model("test_recnext_m").eval(), torch.randn(1, 3, 64, 64), 1)
    monkeypatch.setattr(eager, "pack", broken)
    return network, eager.eager_runner(network, "fp32")


def test_packing_that_raises_falls_back_to_the_plain_network(monkeypatch):
    def broken(module, example):
        raise RuntimeError("no such operator")

    network, run = runner_parts(monkeypatch, broken)
    assert relative_error(run(network.example), network.expected) < 1e-4


def test_packing_that_computes_something_else_falls_back_too(monkeypatch):
    def broken(module, example):
        return nn.Sequential(module, nn.Softmax(-1))

    network, run = runner_parts(monkeypatch, broken)
    assert relative_error(run(network.example), network.expected) < 1e-4


def test_float16_and_gpus_are_not_packed():
    assert not can_pack(CPU, torch.float16)
    assert not can_pack(torch.device("cuda"), torch.float32)


def test_nothing_is_packed_where_pytorch_has_lost_the_private_operator(monkeypatch):
    monkeypatch.delattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    assert not can_pack(CPU, torch.float32)
