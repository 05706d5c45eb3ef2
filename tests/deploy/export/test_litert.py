"""LiteRT models run in LiteRT's own interpreter; `make test-export` has an environment with it."""

from pathlib import Path

import pytest
import torch

from deploy.export.contract import ODD, exported
from deploy.export.phones import PhoneContract
from recnext.deploy.export import Exported, described, export_to
from recnext.errors import RecNextError
from recnext.nn.mixers import LinearAttention

pytest.importorskip("litert_torch", reason="litert-torch is not installed: make test-export")

from recnext.deploy.export import litert
from recnext.deploy.export.files import ExportedNetwork
from recnext.deploy.export.litert import LiteRt


class TestLiteRt(PhoneContract):
    name = "litert"
    maps = "test_recnext_l"

    def test_inputs_are_named(self, made: Exported) -> None:
        assert (made.contents.inputs[0].name, made.contents.inputs[0].shape) == ("image", (1, 3, *ODD))
        assert made.contents.operators["CONV_2D"] > 10


def test_nearest_to_odd_sizes_needs_the_crop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the converter writes it, other neighbours are taken, and the proof sees it."""
    import contextlib

    monkeypatch.setattr(litert, "IntegerFactors", contextlib.nullcontext)
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


def test_int8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecNextError, match="litert has no int8: it has fp32, fp16"):
        exported(LiteRt(), tmp_path / "out", "test_recnext_m", precision="int8")
    assert not (tmp_path / "out").exists()


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


def test_offsets_that_lead_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + 40 * b"\xff")
    for read in (LiteRt().load, LiteRt().header):
        with pytest.raises(RecNextError, match="not a readable LiteRT model"):
            read(path)
