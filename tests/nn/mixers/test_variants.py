"""Every variant equals its definition, differentiates, compiles and refuses what it cannot take.

Oracle: variant_maths, the definitions transcribed in float64 numpy.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from nn.mixers import variant_maths as maths
from recnext.errors import RecNextError
from recnext.nn.mixers.registry import create_token_mixer, token_mixer_names
from recnext.nn.mixers.variants import (
    GroupRecConv2d,
    RecurrentRecConv2d,
    SplitRecConv2d,
    TransposedRecConv2d,
    UnpoolRecConv2d,
)

KERNELS = (3, 7)
LEVELS = (1, 2, 3)


def check(module: nn.Module, oracle, channels: int, size: tuple[int, int], *options) -> None:
    module = module.double()
    x = torch.randn(2, channels, *size, dtype=torch.double)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    expected = oracle(x.numpy(), weights, module.level, *options)
    with torch.no_grad():
        torch.testing.assert_close(module(x), torch.from_numpy(expected), rtol=1e-9, atol=1e-11)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("aggregation", ["add", "hadamard"])
@pytest.mark.parametrize(("activation", "function"), [(None, lambda x: x), (nn.GELU, gelu)])
def test_transposed(kernel_size, level, aggregation, activation, function) -> None:
    module = TransposedRecConv2d(3, kernel_size, level=level, aggregation=aggregation, activation=activation)
    check(module, maths.transposed, 3, (16, 24), aggregation == "hadamard", function)
    assert [name for name, _ in module.named_children()][:3] == ["down", "convs", "up"]


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [(16, 24), (15, 9)])
def test_unpool(kernel_size, level, size) -> None:
    check(UnpoolRecConv2d(3, kernel_size, level=level), maths.unpooled, 3, size)


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("level", LEVELS)
def test_group(kernel_size, level) -> None:
    module = GroupRecConv2d(16, kernel_size, level=level)
    check(module, maths.grouped, 16, (16, 24))
    assert [name for name, _ in module.named_children()] == ["downs", "convs", "ups"]


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("upsample", "size"), [("conv_transpose", (16, 24)), ("bilinear", (15, 9)), ("nearest", (15, 9))]
)
@pytest.mark.parametrize("channels", [16, 11])
def test_split(kernel_size, level, upsample, size, channels) -> None:
    module = SplitRecConv2d(channels, kernel_size, level=level, upsample=upsample)
    check(module, maths.split, channels, size, upsample)


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_recurrent(kernel_size, level, mode) -> None:
    module = RecurrentRecConv2d(3, kernel_size, level=level, mode=mode)
    check(module, maths.recurrent, 3, (15, 9), mode)
    assert [name for name, _ in module.named_children()] == ["n", *("a" if level > 1 else ""), "b", "c", "d"]


@pytest.mark.parametrize("design", ["bilinear", "nearest"])
@pytest.mark.parametrize("kernel_size", [1, 3, 9])
def test_any_odd_kernel(design, kernel_size) -> None:
    module = create_token_mixer(f"rec_{kernel_size}x{kernel_size}_{design}", 3, 1)
    assert module.level == 3
    check(module, maths.recursive, 3, (15, 9), design)


def test_plain_depthwise_has_a_bias() -> None:
    module = create_token_mixer("7x7", 3, 0).double()
    x = torch.randn(2, 3, 9, 11, dtype=torch.double)
    expected = maths.conv(x.numpy(), module.weight.detach().numpy(), module.bias.detach().numpy())
    torch.testing.assert_close(module(x).detach(), torch.from_numpy(expected))


NAMES = token_mixer_names(kernels=(3,))


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name) -> None:
    module = create_token_mixer(name, 4, 2, dtype=torch.double)
    x = torch.randn(1, 4, 8, 4, dtype=torch.double, requires_grad=True)
    parameters = dict(module.named_parameters())

    def run(x, *values):
        return torch.func.functional_call(module, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters.values()), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_script_fx_and_export(name) -> None:
    module = create_token_mixer(name, 8, 2).eval()
    first, second = torch.randn(2, 8, 16, 8), torch.randn(3, 8, 20, 12)
    scripted, traced = torch.jit.script(module), torch.fx.symbolic_trace(module)
    dynamic = torch.export.Dim.DYNAMIC
    exported = torch.export.export(module, (first,), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},)).module()
    with torch.no_grad():
        for x, form in itertools.product((first, second), (scripted, traced, exported)):
            torch.testing.assert_close(form(x), module(x))


@pytest.mark.parametrize("name", NAMES)
def test_device_and_dtype(name) -> None:
    module = create_token_mixer(name, 16, 0, device="meta", dtype=torch.bfloat16)
    tensors = [*module.parameters(), *module.buffers()]
    assert {(t.device.type, t.dtype) for t in tensors} == {("meta", torch.bfloat16)}


@pytest.mark.parametrize("name", ["rec_3x3_conv_transpose", "rec_3x3_group", "rec_3x3_split"])
@pytest.mark.parametrize("size", [(56, 64), (64, 56), (8, 16)])
def test_sizes_refused_with_sizes_that_fit(name, size) -> None:
    module = create_token_mixer(name, 16, 0)
    with pytest.raises(RecNextError, match=rf"a multiple of 16, such as .*, not {size[0]}x{size[1]} .*256, 320 or 384"):
        module(torch.zeros(1, 16, *size))
    assert module(torch.zeros(1, 16, 48, 64)).shape == (1, 16, 48, 64)


def test_size_too_small_to_pool() -> None:
    module = create_token_mixer("rec_3x3_unpool", 4, 0)
    with pytest.raises(RecNextError, match="16 or more, not 15x40"):
        module(torch.zeros(1, 4, 15, 40))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupRecConv2d(40, level=4), "multiple of 16 channels, such as 32 or 48, not 40"),
        (lambda: SplitRecConv2d(7, level=3), "8 channels or more, not 7"),
        (lambda: SplitRecConv2d(8, upsample="cubic"), "upsample='cubic' must be one of"),
        (lambda: TransposedRecConv2d(8, 4), "kernel_size=4 must be odd"),
        (lambda: TransposedRecConv2d(8, level=-1), "level=-1 must be 0 or more"),
        (lambda: TransposedRecConv2d(8, aggregation="max"), "aggregation='max' must be one of add, hadamard"),
        (lambda: RecurrentRecConv2d(8, level=0), "level=0 must be 1 or more"),
        (lambda: RecurrentRecConv2d(8, mode="area"), "mode='area' must be one of bilinear, nearest"),
    ],
)
def test_options_refused(make, message) -> None:
    with pytest.raises(RecNextError, match=message):
        make()
