"""When the Triton form is chosen, and that it stays out of traced and exported graphs and of CPU imports."""

import subprocess
import sys

import pytest
import torch

from nn.ops.recconv_cases import operands
from recnext.nn.mixers import RecConv2d
from recnext.nn.ops import dispatch, fast_recconv2d, recconv2d, use_triton


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose tensors pass for CUDA's; nothing is launched."""
    monkeypatch.setattr(dispatch, "_can_run", lambda device: True)
    monkeypatch.setattr(dispatch, "_on_cuda", lambda x: True)
    monkeypatch.delenv("RECNEXT_TRITON", raising=False)


def test_cpu_takes_the_plain_form() -> None:
    args = operands((1, 4, 9, 7), 3, 2, True)
    assert not use_triton(args[0], args[1], 2)
    torch.testing.assert_close(fast_recconv2d(*args), recconv2d(*args))


@pytest.mark.usefixtures("gpu")
def test_size_and_environment_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    small, down, _, _, _ = operands((1, 4, 8, 8), 3, 1)
    large = torch.empty(1, 64, 1, 1).expand(512, 64, 56, 56)
    assert use_triton(large, down, 1)
    assert not use_triton(small, down, 1)
    monkeypatch.setenv("RECNEXT_TRITON", "1")
    assert use_triton(small, down, 1)
    monkeypatch.setenv("RECNEXT_TRITON", "0")
    assert not use_triton(large, down, 1)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("dtype", "kernel", "level", "expected"),
    [
        (torch.float32, 5, 4, True),
        (torch.bfloat16, 7, 0, True),
        (torch.float64, 5, 4, False),
        (torch.float32, 9, 4, False),
        (torch.float32, 5, 6, False),
    ],
)
def test_only_what_the_kernels_do(
    dtype: torch.dtype, kernel: int, level: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECNEXT_TRITON", "1")
    x, down, _, _, _ = operands((1, 4, 8, 8), kernel, 0, dtype=dtype)
    assert use_triton(x, down, level) is expected


@pytest.mark.usefixtures("gpu")
def test_transforms_and_exports_see_pytorch_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECNEXT_TRITON", "1")
    layer = RecConv2d(4, 3, level=1).eval()
    x = torch.randn(2, 4, 8, 8)
    graphs = [
        str(torch.export.export(layer, (x,)).graph),
        str(torch.jit.trace(layer, (x,), check_trace=False).inlined_graph),
        str(torch.jit.script(layer).inlined_graph),
    ]
    with torch.no_grad():
        per_sample = torch.func.vmap(lambda image: layer(image[None])[0])(x)
    torch.testing.assert_close(per_sample, recconv2d(x, layer.down.weight, [c.weight for c in layer.convs]).detach())
    for graph in graphs:
        assert "recnext::" not in graph
        assert "conv" in graph


def test_importing_does_not_import_the_kernels() -> None:
    program = "import sys, recnext.nn.ops; sys.exit('recnext.nn.ops.kernels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_operator_has_shapes_and_gradients_without_a_gpu() -> None:
    from recnext.nn.ops.library import recconv2d_triton

    x, down, convs, down_bias, biases = (
        t.to("meta") if isinstance(t, torch.Tensor) else [w.to("meta") for w in t]
        for t in operands((1, 4, 6, 5), 3, 1, True)
    )
    leaves = [t.requires_grad_() for t in (x, down, *convs, down_bias, *biases)]
    out = recconv2d_triton(x, down, convs, down_bias, biases, "nearest", torch.bfloat16)
    assert (out.shape, out.dtype) == (x.shape, torch.bfloat16)
    assert out.is_contiguous(memory_format=torch.channels_last)
    for leaf, grad in zip(leaves, torch.autograd.grad(out.sum(), leaves), strict=True):
        assert (grad.shape, grad.dtype) == (leaf.shape, leaf.dtype)


@pytest.mark.usefixtures("gpu")
def test_compiled_graph_holds_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECNEXT_TRITON", "1")
    targets: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):
        targets.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return lambda *args: (torch.empty(1, 4, 8, 8),)

    layer = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), RecConv2d(4, 3, level=1)).eval()
    torch._dynamo.reset()
    torch.compile(layer, fullgraph=True, backend=backend)(torch.randn(1, 4, 8, 8))
    torch._dynamo.reset()
    assert targets[-1] == "recnext.recconv2d.default"
