"""LiteRT models run in LiteRT's own interpreter; `make test-export` has an environment with it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.export.phones import check_full_depth, every_full_depth, exported
from recnext.deploy.export.job import export_to
from recnext.deploy.export.network import described
from recnext.errors import RecNextError
from recnext.nn.mixers import LinearAttention

pytest.importorskip("litert_torch", reason="litert-torch is not installed: make test-export")

from recnext.deploy.export import litert
from recnext.deploy.export.files import ExportedNetwork
from recnext.deploy.export.litert import LiteRt


@pytest.mark.parametrize("name", ["test_recnext_m", "test_recnext_a", "test_recnext_l"])
def test_float32_model_equals_the_network(name: str, tmp_path: Path) -> None:
    made = exported(LiteRt(), tmp_path, name)
    assert made.comparisons[0].relative < 1e-5
    assert made.comparisons[0].agreement == 1
    assert (made.contents.inputs[0].name, made.contents.inputs[0].shape) == ("image", (1, 3, 56, 72))
    assert LiteRt().header(made.path)["recnext.model"] == name
    assert made.contents.operators["CONV_2D"] > 10


def test_nearest_to_odd_sizes_needs_the_crop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the converter writes it, other neighbours are taken, and the proof sees it."""
    import contextlib

    monkeypatch.setattr(litert, "WholeFactors", contextlib.nullcontext)
    made = exported(LiteRt(), tmp_path, "test_recnext_a")
    assert made.comparisons[0].relative > 1e-3
    assert "outputs differ" in made.problem
    assert not any(tmp_path.iterdir())


class OneHead(torch.nn.Module):
    """Attention of one head on more positions than channels: keys times values first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 1)
        self.mixer = LinearAttention(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mixer(self.stem(x)).mean((2, 3))


def test_one_head_needs_merged_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the layer writes it, the converter gets a rank wrong."""
    torch.manual_seed(0)
    network = OneHead().eval()
    spec = described(network, size=(32, 40))
    assert export_to(LiteRt(), network, spec, tmp_path / "merged").comparisons[0].relative < 1e-5
    monkeypatch.setattr(litert, "merge_heads", lambda module: module)
    with pytest.raises(RecNextError, match=r"litert cannot export onehead: .*batch_matmul"):
        export_to(LiteRt(), network, spec, tmp_path / "plain")


def test_four_maps_of_a_batch_in_float16(tmp_path: Path) -> None:
    made = exported(LiteRt(), tmp_path, "test_recnext_l", features=True, batch=3, precision="fp16")
    assert 1e-6 < made.comparisons[0].relative < 5e-3
    assert [port.shape[1] for port in made.contents.outputs] == [16, 32, 48, 64]
    assert made.contents.operators["DEQUANTIZE"] > 10
    assert LiteRt().header(made.path)["recnext.precision"] == "fp16"


def test_pixels_in_probabilities_out(tmp_path: Path) -> None:
    made = exported(LiteRt(), tmp_path, "test_recnext_m", preprocess=True, class_names=("Käfer", "b", "c", "d", "e"))
    assert made.comparisons[0].relative < 1e-4
    (pixels,) = made.contents.inputs
    assert (pixels.name, pixels.dtype, pixels.shape) == ("pixels", "uint8", (1, 56, 72, 3))
    (probabilities,) = LiteRt().load(made.path, threads=1)(np.full((1, 56, 72, 3), 7, np.uint8))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert "Käfer" in LiteRt().header(made.path)["recnext.class_names"]


@every_full_depth
def test_full_depth(name: str, precision: str, tmp_path: Path) -> None:
    check_full_depth(LiteRt(), tmp_path, name, precision)


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    made = exported(LiteRt(), tmp_path, "test_recnext_m", size=(32, 32))
    with pytest.raises(RecNextError, match=r"takes \(1, 3, 32, 32\), not \(2, 3, 32, 32\)"):
        LiteRt().load(made.path)(np.zeros((2, 3, 32, 32), np.float32))


def test_int8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecNextError, match="litert has no int8: it has fp32, fp16"):
        exported(LiteRt(), tmp_path / "out", "test_recnext_m", precision="int8")
    assert not (tmp_path / "out").exists()


def test_half_a_file_is_not_a_model_and_nothing_else_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = exported(LiteRt(), tmp_path, "test_recnext_m", size=(32, 32))
    ExportedNetwork(made.path)
    assert capfd.readouterr().err == ""  # LiteRT and its converter write to the descriptor itself
    data = made.path.read_bytes()
    for kept in (0, 100, len(data) // 2, len(data) - 400):
        made.path.write_bytes(data[:kept])
        with pytest.raises(RecNextError, match="not a readable LiteRT model"):
            ExportedNetwork(made.path)


def test_a_model_of_others(tmp_path: Path) -> None:
    """It may have no signature, or outputs of any names."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    made = exported(LiteRt(), tmp_path, "test_recnext_m", size=(32, 32))
    model = schema.ModelT.InitFromPackedBuf(made.path.read_bytes(), 0)

    def write() -> None:
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        made.path.write_bytes(bytes(builder.Output()))

    model.signatureDefs[0].outputs[0].name = "scores"
    write()
    assert ExportedNetwork(made.path).num_classes == 5
    model.signatureDefs = []
    write()
    with pytest.raises(RecNextError, match="names no inputs and outputs: convert it again, with a signature"):
        ExportedNetwork(made.path)


@pytest.mark.parametrize("content", [b"not a model", b"\x1c\x00\x00\x00TFL3" + 40 * b"\xff"])
def test_not_a_model(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(RecNextError, match="not a readable LiteRT model"):
        LiteRt().load(path)
    with pytest.raises(RecNextError, match="not a readable LiteRT model"):
        LiteRt().header(path)
