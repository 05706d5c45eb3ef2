"""Linear attention against its definition, written out per position in float64."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from recnext import LinearAttention, RecAttn2d, RecNextError
from recnext.nn.mixers.linear_attention import attend, features, key_value_first, normalized_attention


def by_definition(layer: LinearAttention, x: Tensor) -> Tensor:
    """For every position m: sum_n v_n (φ(q_m)·φ(k_n)) / (sum_n φ(q_m)·φ(k_n) + n·1e-6), plus the positional term."""
    maps = {
        "elu": lambda t: torch.where(t > 0, t + 1, t.exp()),
        "softplus": lambda t: torch.log1p((3.5 * t).exp()) / 3.5,
        "relu": lambda t: t.clamp(min=0),
    }
    qk = layer.qk(x).flatten(2)
    q, k = qk[:, : qk.shape[1] // 2], qk[:, qk.shape[1] // 2 :]
    v = x.flatten(2)
    outputs = []
    for q_h, k_h, v_h in zip(*(t.chunk(layer.num_heads, 1) for t in (q, k, v)), strict=True):
        scores = torch.einsum("bdm,bdn->bmn", q_h, k_h)
        if layer.kernel == "softmax":
            weights = (scores / q_h.shape[1] ** 0.5).softmax(-1)
        else:
            phi = maps[layer.kernel]
            scores = torch.einsum("bdm,bdn->bmn", phi(q_h), phi(k_h))
            weights = scores / (scores.sum(-1, keepdim=True) + scores.shape[-1] * 1e-6)
        outputs.append(torch.einsum("bmn,bdn->bdm", weights, v_h))
    return torch.cat(outputs, 1).view_as(x) + layer.pe(x)


@pytest.mark.parametrize("kernel", ["elu", "softplus", "relu", "softmax"])
@pytest.mark.parametrize("half_width", [False, True])
@pytest.mark.parametrize(("heads", "size"), [(1, (3, 5)), (2, (9, 8)), (4, (1, 1))])
def test_equals_definition(kernel: str, half_width: bool, heads: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = LinearAttention(16, heads, half_width=half_width, kernel=kernel, dtype=torch.float64).eval()
    x = torch.randn(2, 16, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_definition(layer, x))


def test_both_orders_are_equal_and_the_cheaper_is_taken() -> None:
    q, k = torch.rand(2, 2, 2, 3, 4, 20, dtype=torch.float64)
    v = torch.randn(2, 3, 6, 20, dtype=torch.float64)
    torch.testing.assert_close(normalized_attention(q[0], k[0], v, True), normalized_attention(q[0], k[0], v, False))
    assert key_value_first(784, 24, 24)
    assert not key_value_first(16, 128, 128)
    assert key_value_first(24, 24, 24)  # equal cost


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reduced_precision_keeps_range(dtype: torch.dtype) -> None:
    # a sum of 4096 products of 16 · 16 is 2^20, past float16's 65504
    q = k = v = torch.full((1, 1, 8, 4096), 16.0, dtype=dtype)
    plain = (v @ k.mT) / 4096
    assert dtype == torch.bfloat16 or plain.isinf().any()
    out = attend(features(q, "elu"), features(k, "elu"), v, "elu", True)
    assert out.dtype == dtype
    torch.testing.assert_close(out, v)


def test_autocast_computes_the_sums_in_float32() -> None:
    torch.manual_seed(0)
    layer = RecAttn2d(16, 2).eval()
    x = torch.randn(2, 16, 40, 40)
    with torch.autocast("cpu", dtype=torch.float16):
        out = layer(x * 100)
    assert out.isfinite().all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_heads": 3}, "3 heads do not divide 16 channels"),
        ({"num_heads": 16, "half_width": True}, "16 heads do not divide 16 channels and their half"),
        ({"kernel": "cosine"}, "kernel='cosine' must be one of elu, softplus, relu, softmax"),
    ],
)
def test_bad_arguments(kwargs: dict, message: str) -> None:
    with pytest.raises(RecNextError, match=message):
        LinearAttention(16, **kwargs)


@pytest.mark.parametrize("kernel", ["softplus", "relu", "softmax"])
def test_networks_take_a_kernel_without_new_parameters(kernel: str) -> None:
    import timm

    with torch.device("meta"):
        model = timm.create_model("recnext_t_share_channel", attention_kernel=kernel)
    assert sum(p.numel() for p in model.parameters()) == 12662480
    tiny = timm.create_model("test_recnext_l", attention_kernel=kernel).eval()
    assert tiny(torch.randn(1, 3, 64, 64)).isfinite().all()
    assert all(m.kernel == kernel for m in tiny.modules() if isinstance(m, LinearAttention))


def test_recursive_attention_refuses_what_would_change_the_shape() -> None:
    with pytest.raises(RecNextError, match="kernel_size=4 must be odd"):
        RecAttn2d(8, kernel_size=4)
    with pytest.raises(RecNextError, match="mode='cubic' must be one of"):
        RecAttn2d(8, mode="cubic")


@pytest.mark.filterwarnings("ignore")
def test_older_onnx_export_of_one_size_is_right_at_others(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    layer = RecAttn2d(16, 2).eval()
    file = str(tmp_path / "layer.onnx")
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(
        layer, (torch.randn(2, 16, 8, 8),), file, input_names=["x"], dynamic_axes=axes, opset_version=17, dynamo=False
    )
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for size in ((8, 8), (24, 40)):
        x = torch.randn(1, 16, *size)
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), layer(x))
