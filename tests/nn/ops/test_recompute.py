"""The recomputing autograd path against autograd through the plain form, the oracle for every gradient here."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from nn.ops.recconv_cases import detached, error, flat, operands
from recnext.nn.ops.recconv import recconv2d
from recnext.nn.ops.recompute import recconv2d_recompute


def gradients(function, args: tuple, mode: str, cotangent: Tensor) -> list[Tensor]:
    leaves = detached(args)
    function(*leaves, mode).backward(cotangent)
    return [t.grad for t in flat(leaves)]


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("size", "level", "kernel"), [((5, 4), 2, 3), ((3, 6), 1, 5), ((4, 3), 0, 3)])
def test_gradcheck(size: tuple[int, int], level: int, kernel: int, bias: bool, mode: str) -> None:
    args = operands((2, 2, *size), kernel, level, bias, dtype=torch.float64)
    leaves = flat(detached(args))

    def call(x: Tensor, down: Tensor, *rest: Tensor) -> Tensor:
        convs, biases = list(rest[: level + 1]), list(rest[level + 1 :])
        if not bias:
            return recconv2d_recompute(x, down, convs, None, None, mode)
        return recconv2d_recompute(x, down, convs, biases[0], biases[1:], mode)

    assert torch.autograd.gradcheck(call, leaves)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_equals_autograd_of_the_plain_form(mode: str, layout: torch.memory_format) -> None:
    x, *rest = operands((2, 8, 15, 14), 5, 4, True)
    args = (x.contiguous(memory_format=layout), *rest)
    cotangent = torch.randn(x.shape)
    expected = gradients(recconv2d, args, mode, cotangent)
    for ours, reference in zip(gradients(recconv2d_recompute, args, mode, cotangent), expected, strict=True):
        assert error(ours, reference) < 2e-6
    out = recconv2d_recompute(*args, mode)
    assert out.is_contiguous(memory_format=layout)
    torch.testing.assert_close(out, recconv2d(*args, mode))


def saved_bytes(function, args: tuple) -> int:
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with saved_tensors_hooks(pack, lambda t: t):
        function(*args)
    return sum(kept.values())


def test_saves_the_input_and_the_weights_only() -> None:
    args = detached(operands((4, 16, 28, 28), 5, 3))
    ours, plain = saved_bytes(recconv2d_recompute, args), saved_bytes(recconv2d, args)
    assert ours == sum(t.nbytes for t in flat(args))
    assert ours < 0.45 * plain


def test_twice_in_one_graph() -> None:
    args = operands((2, 4, 9, 7), 3, 2, dtype=torch.float64)

    def twice(function):
        def call(x, down, convs, down_bias, conv_biases, mode):
            y = function(x, down, convs, down_bias, conv_biases, mode)
            return y + function(y.sigmoid(), down, convs, down_bias, conv_biases, mode)

        return call

    cotangent = torch.randn(args[0].shape, dtype=torch.float64)
    expected = gradients(twice(recconv2d), args, "bilinear", cotangent)
    ours = gradients(twice(recconv2d_recompute), args, "bilinear", cotangent)
    torch.testing.assert_close(ours, expected)


def test_only_the_gradients_that_are_asked_for() -> None:
    x, down, convs, _, _ = operands((2, 4, 8, 8), 3, 2, dtype=torch.float64)
    grads = []
    for function in (recconv2d, recconv2d_recompute):
        weight = down.clone().requires_grad_()
        function(x, weight, convs).square().sum().backward()
        grads.append(weight.grad)
    torch.testing.assert_close(*grads)
    leaf = x.clone().requires_grad_()
    recconv2d_recompute(leaf, down, convs).sum().backward()
    assert leaf.grad is not None
    assert down.grad is None


def test_second_derivative_is_refused_clearly() -> None:
    args = detached(operands((1, 2, 6, 6), 3, 1))
    (grad,) = torch.autograd.grad(recconv2d_recompute(*args).square().sum(), args[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_autocast_bfloat16() -> None:
    args = operands((2, 8, 14, 14), 5, 2, True)
    leaves = detached(args)
    with torch.autocast("cpu", torch.bfloat16):
        out = recconv2d_recompute(*leaves)
    assert out.dtype == torch.bfloat16
    assert error(out, recconv2d(*args)) < 2e-2
    out.float().square().sum().backward()
    reference = detached(args)
    recconv2d(*reference).square().sum().backward()
    for ours, expected in zip(flat(leaves), flat(reference), strict=True):
        assert ours.grad.dtype == torch.float32
        assert error(ours.grad, expected.grad) < 3e-2


def test_float16_levels_do_not_overflow() -> None:
    args = operands((1, 8, 32, 32), 5, 4, scale=14.0, dtype=torch.float16)
    exact = recconv2d(*(operands((1, 8, 32, 32), 5, 4, scale=14.0, dtype=torch.float64)))
    assert exact.abs().max() > 65504, "the case must be out of float16's range"
    with torch.autocast("cpu", torch.float16):
        out = recconv2d_recompute(*args)
    assert out.dtype == torch.float32
    assert error(out, exact) < 1e-2


@pytest.mark.slow
def test_compile_makes_one_graph() -> None:
    args = operands((2, 4, 9, 9), 3, 2, True)
    cotangent = torch.randn(args[0].shape)
    compiled = torch.compile(recconv2d_recompute, fullgraph=True, backend="aot_eager")
    expected = gradients(recconv2d, args, "bilinear", cotangent)
    for ours, reference in zip(gradients(compiled, args, "bilinear", cotangent), expected, strict=True):
        assert error(ours, reference) < 2e-6


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        _, down, convs, _, _ = operands((1, 4, 1, 1), 3, 2)
        self.down = nn.Parameter(down)
        self.convs = nn.ParameterList(convs)

    def forward(self, x: Tensor) -> Tensor:
        return recconv2d_recompute(x, self.down, list(self.convs))


def _rank(rank: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    x = operands((4, 4, 9, 9), 3, 2)[0]
    model = nn.parallel.DistributedDataParallel(_Layer())
    model(x[rank * 2 : rank * 2 + 2]).square().mean().backward()
    if rank == 0:
        torch.save([p.grad for p in model.parameters()], out)
    dist.destroy_process_group()


@pytest.mark.slow
def test_distributed_data_parallel(tmp_path: Path) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    out = str(tmp_path / "grads.pt")
    mp.spawn(_rank, (str(tmp_path / "store"), out), nprocs=2)
    single = _Layer()
    single(operands((4, 4, 9, 9), 3, 2)[0]).square().mean().backward()
    torch.testing.assert_close(torch.load(out), [p.grad for p in single.parameters()])
