"""The Triton form on a real GPU: exact, deterministic, in range, and whole under compile, autocast and graphs."""

import os

import pytest
import torch

from nn.ops.recconv_cases import detached, error, flat, operands
from recnext.nn.mixers import RecConv2d
from recnext.nn.ops import dispatch, recconv2d
from recnext.nn.ops.dispatch import recconv2d_cuda

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
STAGES = [((3, 48, 56, 56), 4), ((3, 96, 28, 28), 3), ((2, 40, 13, 27), 2), ((2, 384, 7, 7), 1)]


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "SETTING", "1")


def fresh() -> int:
    return int.from_bytes(os.urandom(3), "big")


def poison() -> None:
    """Leaves NaN in the memory that the next allocations reuse, so that an unwritten element shows."""
    blocks = [torch.full((1 << 22,), float("nan"), device="cuda") for _ in range(8)]
    blocks += [torch.full((1 << 12,), float("nan"), device="cuda") for _ in range(64)]
    del blocks


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(("shape", "level"), STAGES)
def test_equals_float64(shape: tuple[int, ...], level: int, dtype: torch.dtype) -> None:
    seed = fresh()
    args = operands(shape, 5, level, dtype=dtype, device="cuda", seed=seed)
    ours = detached(args)
    exact = tuple(None if t is None else _double(t) for t in args)
    poison()
    out = recconv2d_cuda(*ours)
    expected = recconv2d(*exact)
    cotangent = operands(shape, 5, level, dtype=dtype, device="cuda", seed=seed + 1)[0]
    poison()
    out.backward(cotangent)
    expected.backward(cotangent.double().cpu())
    assert error(out, expected) < TOLERANCE[dtype], seed
    for got, reference in zip(flat(ours), flat(exact), strict=True):
        assert error(got.grad, reference.grad) < TOLERANCE[dtype], seed


def _double(t):
    if isinstance(t, list):
        return [_double(w) for w in t]
    return t.double().cpu().requires_grad_()


def test_same_bits_every_time() -> None:
    args = operands((8, 48, 56, 56), 5, 4, dtype=torch.bfloat16, device="cuda", seed=fresh())
    runs = []
    for _ in range(3):
        leaves = detached(args)
        out = recconv2d_cuda(*leaves)
        out.backward(args[0])
        runs.append([out, *(t.grad for t in flat(leaves))])
        poison()
    for later in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], later, strict=True))


def test_float16_keeps_its_range_where_the_plain_form_does_not() -> None:
    def case(dtype: torch.dtype, device: str):
        return operands((2, 48, 56, 56), 5, 4, scale=11.0, seed=3, dtype=dtype, device=device)

    exact = recconv2d(*case(torch.float64, "cpu"))
    half = case(torch.float16, "cuda")
    assert not recconv2d(*half).isfinite().all()
    with torch.autocast("cuda", torch.float16):
        out = recconv2d_cuda(*half)
    assert out.dtype == torch.float32
    assert error(out, exact) < 2e-3


def test_compiled_module_keeps_the_operator_in_one_graph() -> None:
    layer = RecConv2d(48, 5, level=2).cuda()
    x = torch.randn(2, 48, 14, 14, device="cuda").contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = layer(x)
    (grad,) = torch.autograd.grad(expected.square().sum(), x)
    compiled = torch.compile(layer, fullgraph=True)
    out = compiled(x)
    (ours,) = torch.autograd.grad(out.square().sum(), x)
    assert error(out, expected) < 1e-6
    assert error(ours, grad) < 1e-5
    with torch.autocast("cuda", torch.bfloat16):
        assert compiled(x).dtype == torch.bfloat16


def test_module_under_a_cuda_graph() -> None:
    layer = RecConv2d(48, 5, level=3).cuda().eval()
    x = torch.randn(2, 48, 28, 28, device="cuda").contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = layer(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = layer(x)
        out.fill_(float("nan"))
        graph.replay()
    assert torch.equal(out, expected)


def test_operator_passes_pytorchs_own_checks() -> None:
    from recnext.nn.ops.library import recconv2d_triton

    x, down, convs, down_bias, biases = detached(operands((1, 8, 6, 5), 3, 1, True, device="cuda"))
    torch.library.opcheck(recconv2d_triton, (x, down, convs, down_bias, biases, "bilinear", torch.float32))


def test_export_holds_only_pytorch_operators() -> None:
    layer = RecConv2d(16, 5, level=2).cuda().eval()
    graph = torch.export.export(layer, (torch.randn(2, 16, 14, 14, device="cuda"),)).graph
    names = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert any("conv2d" in name for name in names)
    assert not any("recnext" in name for name in names)
