"""ExecuTorch programs run in ExecuTorch's own runtime; `make test-export` has an environment with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy.export.phones import check_full_depth, every_full_depth, exported
from recnext.deploy.export import described, export_to
from recnext.errors import RecNextError
from recnext.nn.mixers import LinearAttention

pytest.importorskip("executorch", reason="executorch is not installed: make test-export")

from recnext.deploy.export.executorch import ExecuTorch
from recnext.deploy.export.files import ExportedNetwork


@pytest.mark.parametrize("name", ["test_recnext_m", "test_recnext_a", "test_recnext_l"])
def test_float32_program_equals_the_network(name: str, tmp_path: Path) -> None:
    made = exported(ExecuTorch(), tmp_path, name)
    assert made.comparisons[0].relative < 2e-6
    assert made.comparisons[0].agreement == 1
    assert made.contents.operators["XnnpackBackend part"] >= 1
    assert made.latency_ms is not None
    assert ExecuTorch().header(made.path)["recnext.model"] == name
    assert made.unproved == ""


def test_four_maps_of_a_batch_in_float16(tmp_path: Path) -> None:
    made = exported(ExecuTorch(), tmp_path, "test_recnext_m", features=True, batch=3, precision="fp16")
    assert 1e-6 < made.comparisons[0].relative < 5e-3
    assert [port.shape[1] for port in made.contents.outputs] == [16, 32, 64, 128]
    # RecConv is the delegate's too: no convolution is left to the portable kernels.
    assert not any("convolution" in operator for operator in made.contents.operators)


def test_pixels_in_probabilities_out(tmp_path: Path) -> None:
    made = exported(
        ExecuTorch(), tmp_path, "test_recnext_m", preprocess=True, class_names=("Käfer", "b", "c", "d", "e")
    )
    assert made.comparisons[0].relative < 1e-4
    assert (made.contents.inputs[0].dtype, made.contents.inputs[0].shape) == ("uint8", (1, 56, 72, 3))
    (probabilities,) = ExecuTorch().load(made.path, threads=1)(np.full((1, 56, 72, 3), 7, np.uint8))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert "Käfer" in ExecuTorch().header(made.path)["recnext.class_names"]


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


@every_full_depth
def test_full_depth(name: str, precision: str, tmp_path: Path) -> None:
    check_full_depth(ExecuTorch(), tmp_path, name, precision)


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


def test_half_a_file_is_not_a_program(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = exported(ExecuTorch(), tmp_path, "test_recnext_m", size=(32, 32))
    data = made.path.read_bytes()
    assert capfd.readouterr().err == ""
    for kept in (0, 1000, len(data) // 2, len(data) - 4000):
        made.path.write_bytes(data[:kept])
        with pytest.raises(RecNextError, match="not a readable ExecuTorch program"):
            ExportedNetwork(made.path)


def test_not_a_program(tmp_path: Path) -> None:
    path = tmp_path / "x.pte"
    path.write_bytes(b"not a program")
    with pytest.raises(RecNextError, match="not a readable ExecuTorch program"):
        ExecuTorch().load(path)
    with pytest.raises(RecNextError, match="not a readable ExecuTorch program"):
        ExecuTorch().header(path)
