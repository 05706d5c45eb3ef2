"""RecConv2d: the module, its forms, layouts and mixed precision."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import recnext
from recnext import RecConv2d, RecNextError
from recnext.nn.ops.recconv import recconv2d


def functional(layer: RecConv2d, x: Tensor) -> Tensor:
    biases = None if layer.down.bias is None else [c.bias for c in layer.convs]
    return recconv2d(x, layer.down.weight, [c.weight for c in layer.convs], layer.down.bias, biases, layer.mode)


def dense(layer: RecConv2d, x: Tensor) -> Tensor:
    """The recursion with every convolution as a sum over shifted maps, in float64 (its definition, section 3)."""

    def conv(t: Tensor, module: nn.Conv2d, stride: int) -> Tensor:
        k = module.kernel_size[0]
        p = nn.functional.pad(t, [k // 2] * 4)
        h, w = t.shape[-2:]
        out = sum(
            module.weight[:, 0, i, j, None, None] * p[..., i : i + h, j : j + w] for i in range(k) for j in range(k)
        )
        out = out if module.bias is None else out + module.bias[:, None, None]
        return out[..., ::stride, ::stride]

    def level(t: Tensor, depth: int) -> Tensor:
        if depth < layer.level:
            coarse = level(conv(t, layer.down, 2), depth + 1)
            t = t + nn.functional.interpolate(coarse, size=t.shape[-2:], mode=layer.mode)
        return conv(t, layer.convs[layer.level - depth], 1)

    return level(x, 0)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(("level", "kernel_size", "bias"), [(0, 5, False), (1, 3, True), (2, 7, False), (4, 5, True)])
@pytest.mark.parametrize("size", [(16, 16), (13, 7), (1, 5)])
def test_equals_definition(mode: str, level: int, kernel_size: int, bias: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = RecConv2d(6, kernel_size, bias, level, mode, dtype=torch.float64)
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), dense(layer, x))
    torch.testing.assert_close(layer(x), functional(layer, x))
    assert [key for key, _ in layer.named_children()] == ["down", "convs"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"level": -1}, "level=-1 must be 0 or more"),
        ({"mode": "bicubic"}, "mode='bicubic' must be one of bilinear, nearest"),
    ],
)
def test_bad_arguments(kwargs: dict, message: str) -> None:
    with pytest.raises(RecNextError, match=message):
        RecConv2d(8, **kwargs)


class Conversions(TorchDispatchMode):
    """Counts operations that copy a 4-D map into another memory format, and outputs in the wrong one."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func._overloadpacket.__name__
        if isinstance(out, Tensor) and out.dim() == 4 and min(out.shape[1:]) > 1:
            lost = not out.is_contiguous(memory_format=torch.channels_last) and name not in ("view", "slice", "expand")
            if name in ("clone", "_to_copy", "contiguous", "copy_") or lost:
                self.copies.append(f"{name} {tuple(out.shape)}")
        return out


@pytest.mark.parametrize("name", ["recnext_m0", "recnext_m1"])
def test_channels_last_needs_no_hidden_copies(name: str) -> None:
    model = recnext.fuse(timm.create_model(name)).to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.inference_mode(), Conversions() as counted:
        model(x)
    assert counted.copies == []


def test_training_in_channels_last_needs_no_hidden_copies() -> None:
    model = timm.create_model("test_recnext_m").to(memory_format=torch.channels_last).train()
    x = torch.randn(2, 3, 128, 128).to(memory_format=torch.channels_last)
    with Conversions() as counted:
        model(x).square().mean().backward()
    # the gradient of the global average enters the last stage in NCHW; nothing before that stage sees it
    assert all("(2, 128, 4, 4)" in copy for copy in counted.copies)


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, each storage once, weights left out."""
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in layer.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        layer(x)
    return sum(kept.values())


@pytest.mark.parametrize(("level", "size"), [(4, 56), (3, 28), (2, 14)])
def test_recompute_saves_less_than_half(level: int, size: int) -> None:
    x = torch.randn(2, 8, size, size).to(memory_format=torch.channels_last)
    plain, saving = RecConv2d(8, level=level), RecConv2d(8, level=level, recompute=True)
    assert saved_bytes(saving, x) <= 0.45 * saved_bytes(plain, x)


def test_network_with_recompute_has_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("test_recnext_m").train()
    saving = timm.create_model("test_recnext_m", recompute=True).train()
    saving.load_state_dict(plain.state_dict())
    both = copy.deepcopy(saving)
    both.set_grad_checkpointing()
    assert all(m.recompute for m in both.modules() if isinstance(m, RecConv2d))
    x = torch.randn(2, 3, 67, 64)
    for model in (plain, saving, both):
        model(x).square().mean().backward()
    for (name, p), q, r in zip(plain.named_parameters(), saving.parameters(), both.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-6, msg=name)
        torch.testing.assert_close(r.grad, p.grad, rtol=1e-4, atol=1e-6, msg=name)


def amplified(level: int) -> tuple[RecConv2d, Tensor]:
    """Four times the default weights, and an input of the size a network's map has."""
    torch.manual_seed(0)
    layer = RecConv2d(64, level=level)
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(4)
    return layer, torch.randn(1, 64, 56, 56) * 8 + 8


def test_float16_keeps_its_range_where_the_plain_form_overflows() -> None:
    layer, x = amplified(level=5)
    with torch.no_grad():
        layer.convs[-1].weight.div_(2048)  # what folding the norm that follows does: the result fits float16
        half = copy.deepcopy(layer).half()
        expected = layer(x)
        plain = functional(half, x.half())
        ours = half(x.half())
    assert not plain.isfinite().all()
    assert ours.dtype == torch.float16
    assert ours.isfinite().all()
    assert ((ours.float() - expected).norm() / expected.norm()).item() < 2e-3


@pytest.mark.parametrize("recompute", [False, True])
def test_autocast_to_float16_returns_float32_for_the_norm(recompute: bool) -> None:
    layer, x = amplified(level=5)
    layer.recompute = recompute
    with torch.autocast("cpu", dtype=torch.float16):
        y = layer(x)
        z = nn.BatchNorm2d(64)(y)
    assert y.dtype == torch.float32
    assert y.abs().max() > torch.finfo(torch.float16).max
    assert z.isfinite().all()
    z.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("level", range(5))
def test_reduced_precision_error_does_not_grow_with_the_level(level: int) -> None:
    torch.manual_seed(0)
    layer = RecConv2d(16, level=level)
    x = torch.randn(1, 16, 56, 56)
    with torch.no_grad():
        expected = layer.double()(x.double())
        layer.float()
        for dtype, allowed in ((torch.float16, 1e-3), (torch.bfloat16, 8e-3)):
            with torch.autocast("cpu", dtype=dtype):
                error = (layer(x).double() - expected).norm() / expected.norm()
            assert error.item() < allowed
