"""ExecuTorch programs run in ExecuTorch's own runtime; `make test-export` has an environment with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy.export.contract import exported
from deploy.export.phones import PhoneContract
from recnext.deploy.export import Exported, described, export_to
from recnext.errors import RecNextError
from recnext.nn.mixers import LinearAttention

pytest.importorskip("executorch", reason="executorch is not installed: make test-export")

from recnext.deploy.export.executorch import ExecuTorch
from recnext.deploy.export.files import ExportedNetwork


class TestExecuTorch(PhoneContract):
    name = "executorch"

    def test_xnnpack_computes_it(self, made: Exported) -> None:
        assert made.contents.operators["XnnpackBackend part"] >= 1
        assert made.latency_ms is not None
        assert made.unproved == ""


def test_recconv_in_float16_is_the_delegates_too(tmp_path: Path) -> None:
    """No convolution is left to the portable kernels."""
    made = exported(ExecuTorch(), tmp_path, precision="fp16")
    assert not any("convolution" in operator for operator in made.contents.operators)


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 2e-6), ("fp16", 5e-3)])
def test_core_ml_inside(precision: str, limit: float, tmp_path: Path) -> None:
    """The whole network is one Core ML program; the proof reads it out of the file and evaluates it."""
    made = exported(ExecuTorch(), tmp_path, "test_recnext_a", delegate="coreml", precision=precision)
    assert made.comparisons[0].relative < limit
    assert made.contents.operators["CoreMLBackend part"] == 1
    assert made.contents.operators["upsample_nearest_neighbor"] == 5
    assert made.unproved == "program checked, not run on Apple hardware"
    assert made.latency_ms is None
    assert made.path.name.endswith("_coreml.pte")
    with pytest.raises(RecNextError, match="runs on Apple devices only, by Core ML"):
        ExecuTorch().load(made.path)


def test_without_the_private_names_it_says_so_or_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.exir._serialize import _program
    from executorch.extension.pybindings import portable_lib

    made = exported(ExecuTorch(), tmp_path, size=(32, 32))
    monkeypatch.delattr(portable_lib, "_unsafe_reset_threadpool")
    assert ExecuTorch().load(made.path, threads=1)(np.zeros((1, 3, 32, 32), np.float32))[0].shape == (1, 5)
    monkeypatch.delattr(_program, "deserialize_pte_binary")
    with pytest.raises(RecNextError, match="this ExecuTorch cannot read programs"):
        ExecuTorch().load(made.path)
    monkeypatch.delattr(CoreMLBackend, "model_compute_precision_from_compile_specs")
    with pytest.raises(RecNextError, match="cannot keep sums in float32"):
        exported(ExecuTorch(), tmp_path / "half", size=(32, 32), precision="fp16", delegate="coreml")


class LargeSums(torch.nn.Module):
    """Attention whose sums no float16 holds, though its results fit."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 64, 8, 8)
        self.mixer = LinearAttention(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mixer(80 * self.stem(x)).mean((2, 3))


def test_core_ml_inside_keeps_the_sums_of_the_attention_in_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = LargeSums().eval()
    spec = described(network, size=(32, 40), precision="fp16", delegate="coreml")
    made = export_to(ExecuTorch(), network, spec, tmp_path)
    assert made.problem == ""
    assert made.contents.operators["CoreMLBackend part"] == 1


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"delegate": "vulkan"}, "delegate='vulkan' must be xnnpack or coreml"),
        ({"delegate": "coreml", "preprocess": True}, "takes no uint8 pixels"),
        ({"precision": "int8"}, "executorch has no int8: it has fp32, fp16"),
    ],
)
def test_what_cannot_be_made_is_refused_before_any_work(choices: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecNextError, match=message):
        exported(ExecuTorch(), tmp_path / "out", "test_recnext_m", **choices)
    assert not (tmp_path / "out").exists()


def test_a_program_without_forward_is_named(tmp_path: Path) -> None:
    from executorch.exir import to_edge

    program = torch.export.export(torch.nn.Identity(), (torch.zeros(2),))
    path = tmp_path / "x.pte"
    path.write_bytes(to_edge({"other": program}).to_executorch().buffer)
    with pytest.raises(RecNextError, match=r"x\.pte has no method forward, but other"):
        ExportedNetwork(path)
