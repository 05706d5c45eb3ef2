"""Which form of the recursion runs under eager code, compilers, exporters, tracers and transforms."""

import io
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nn.ops.recconv_cases import operands
from recnext.nn.mixers import RecConv2d
from recnext.nn.ops import choose, dispatch, recconv2d
from recnext.nn.ops.recompute import recconv2d_recompute


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernels take tensors of any device; nothing is launched."""
    monkeypatch.setattr(dispatch, "runs_on", lambda device: True)
    monkeypatch.setattr(dispatch, "SETTING", "")


def form(layer: RecConv2d, x: Tensor) -> object:
    return choose(x, layer.down, layer.convs, recompute=layer.recompute)


def compiled_operators(function: Callable[[Tensor], Tensor], x: Tensor) -> list[str]:
    """The functions that torch.compile's graph calls."""
    names: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]):
        names.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return lambda *args: (torch.empty_like(x),)

    torch._dynamo.reset()
    torch.compile(function, fullgraph=True, backend=backend)(x)
    torch._dynamo.reset()
    return names


def onnx_graph(layer: nn.Module, x: Tensor) -> str:
    """The file of PyTorch's older exporter to ONNX, as text."""
    file = io.BytesIO()
    torch.onnx.export(layer, (x,), file, dynamo=False)
    return file.getvalue().decode("latin-1").lower()


def test_cpu_takes_the_modules() -> None:
    x = torch.randn(1, 4, 9, 7)
    assert form(RecConv2d(4), x) is None
    assert form(RecConv2d(4, recompute=True), x) is recconv2d_recompute
    assert form(RecConv2d(4), x.half()) is dispatch.recconv2d_float32


@pytest.mark.usefixtures("gpu")
def test_size_and_setting_decide_for_eager_code(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = RecConv2d(64, level=1)
    small, large = torch.empty(1, 64, 8, 8), torch.empty(1, 64, 1, 1).expand(512, 64, 56, 56)
    assert form(layer, large) is dispatch.recconv2d_cuda
    assert form(layer, small) is None
    monkeypatch.setattr(dispatch, "SETTING", "1")
    assert form(layer, small) is dispatch.recconv2d_cuda
    monkeypatch.setattr(dispatch, "SETTING", "0")
    assert form(layer, large) is None


@pytest.mark.usefixtures("gpu")
def test_a_graph_that_is_captured_takes_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "launched_by_host", lambda device: False)
    assert form(RecConv2d(4), torch.empty(1, 4, 8, 8)) is dispatch.recconv2d_cuda


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
    monkeypatch.setattr(dispatch, "SETTING", "1")
    x, down, _, _, _ = operands((1, 4, 8, 8), kernel, 0, dtype=dtype)
    assert dispatch.kernels_take(x, down, level) is expected


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("height", "taken"), [(1 << 19, False), ((1 << 19) - 1, True)])
def test_images_that_32_bits_cannot_count_are_refused(height: int, taken: bool) -> None:
    x = torch.empty(1, device="meta").expand(1, 4, height, 1 << 10)
    assert dispatch.kernels_take(x, torch.empty(4, 1, 5, 5), 2) is taken


@pytest.mark.usefixtures("gpu")
def test_transforms_and_exports_see_pytorch_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "SETTING", "1")
    layer = RecConv2d(4, 3, level=1).eval()
    x = torch.randn(2, 4, 8, 8)

    def per_sample(images: Tensor) -> Tensor:
        return torch.func.vmap(lambda image: layer(image[None])[0])(images)

    def gradient(images: Tensor) -> Tensor:
        return torch.func.grad(lambda values: layer(values).sum())(images)

    graphs = [
        str(torch.export.export(layer, (x,), strict=False).graph),
        str(torch.export.export(layer, (x,), strict=True).graph),
        str(torch.jit.trace(layer, (x,), check_trace=False).inlined_graph),
        str(torch.jit.script(layer).inlined_graph),
        onnx_graph(layer, x),
        str(compiled_operators(per_sample, x)),
        str(compiled_operators(gradient, x)),
    ]
    for graph in graphs:
        assert not re.search(r"recnext(::|\.recconv2d)", graph)
        assert "conv" in graph
    with torch.no_grad():
        expected = recconv2d(x, layer.down.weight, [c.weight for c in layer.convs])
        torch.testing.assert_close(per_sample(x), expected)
    assert gradient(x).shape == x.shape


def test_export_calls_no_module_twice() -> None:
    graph = torch.export.export(RecConv2d(4, 3, level=3).eval(), (torch.randn(1, 4, 16, 16),)).graph
    convolutions = [node for node in graph.nodes if node.op == "call_function" and "conv2d" in str(node.target)]
    sources = ["/".join(node.meta.get("nn_module_stack", {})) for node in convolutions]
    assert len(convolutions) == 7
    assert not any("down" in source for source in sources)


@pytest.mark.usefixtures("gpu")
def test_a_module_that_replaces_a_convolution_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "SETTING", "1")

    class Doubled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    layer = RecConv2d(4, 3, level=0).eval()
    x = torch.randn(1, 4, 8, 8)
    expected = 2 * layer.convs[0](x)
    replaced = Doubled(4, 4, 3, padding=1, groups=4, bias=False)
    replaced.load_state_dict(layer.convs[0].state_dict())
    layer.convs[0] = replaced
    torch.testing.assert_close(layer(x), expected)


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
def test_compiled_graph_holds_the_operator_at_any_size() -> None:
    layer = nn.Sequential(nn.Conv2d(4, 4, 1), RecConv2d(4, 3, level=1)).eval()
    assert compiled_operators(layer, torch.randn(1, 4, 8, 8))[-1] == "recnext.recconv2d.default"
