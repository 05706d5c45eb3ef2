import tempfile

import numpy as np
import onnx
import pytest
import torch

from deploy.export.contract import ExportContract
from recnext.checkpoints import load
from recnext.deploy.export import Exported, described, export_to, target
from recnext.errors import RecNextError


class TestOnnx(ExportContract):
    name = "onnx"

    def test_ports_are_named(self, made: Exported) -> None:
        assert [port.name for port in made.contents.inputs + made.contents.outputs] == ["image", "logits"]


class TestOpenVino(TestOnnx):
    name = "openvino"


class TestTorch(ExportContract):
    name = "torch"
    size = (96, 72)


class TestTorchScript(ExportContract):
    name = "torchscript"
    opened = False
    repeatable = False


def test_the_onnx_file_is_clean(exports):
    """A valid program of the asked opset that says nothing of the machine it was made on."""
    model = onnx.load(exports["onnx"].path)
    onnx.checker.check_model(model, full_check=True)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 20)]
    sides = [side.dim_param for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", "", "height", "width"]
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert b".py" not in model.SerializeToString()
    assert "BatchNormalization" not in exports["onnx"].contents.operators


def test_pixels_in_probabilities_out(exports, tiny):
    """Oracle: the network on images that recnext.data.normalise prepared."""
    from recnext.data import normalise

    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    spec = described(tiny, size=(64, 64))
    with torch.no_grad():
        images = normalise(pixels, mean=spec.mean, std=spec.std, device=torch.device("cpu"))
        expected = tiny(images).softmax(1).numpy()
    assert exports["pixels"].problem == ""
    assert exports["pixels"].contents.inputs[0].shape == (2, 64, 64, 3)
    run = target("onnx").load(exports["pixels"].path)
    np.testing.assert_allclose(run(pixels.permute(0, 2, 3, 1).numpy())[0], expected, atol=1e-3)


def test_a_backbone_gives_its_maps(tmp_path):
    """Of the A series, so that the attention is exported too."""
    model = load("test_recnext_a", features_only=True)
    spec = described(model, size=(96, 96), opset=18)
    made = export_to(target("onnx"), model, spec, tmp_path, threads=1)
    assert made.problem == ""
    assert made.contents.format == "ONNX opset 18, IR 10"
    assert [port.name for port in made.contents.outputs] == [f"features_{i}" for i in range(4)]
    assert all(row.agreement is None for row in made.comparisons)


class Wrong(type(target("torch"))):
    """A format whose files compute something else."""

    def load(self, path, *, threads=None):
        run = super().load(path, threads=threads)
        return lambda x: [output + 0.1 for output in run(x)]


class Broken(type(target("torch"))):
    """A format whose exporter fails after it wrote something."""

    def export(self, module, spec, folder):
        (folder / "half.pt2").write_bytes(b"x")
        raise RuntimeError("no such operator: frobnicate\nmore")


def test_a_file_that_is_wrong_or_failed_leaves_nothing(tiny, tmp_path):
    spec = described(tiny, size=(64, 64), dynamic_batch=False, dynamic_size=False)
    old = tmp_path / f"{spec.stem}.pt2"
    old.write_bytes(b"an older file")
    made = export_to(Wrong(), tiny, spec, tmp_path)
    assert "of their spread, over 1e-04" in made.problem
    with pytest.raises(RecNextError, match=r"torch cannot export test_recnext_m: no such operator: frobnicate$"):
        export_to(Broken(), tiny, spec, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [old.name]
    assert old.read_bytes() == b"an older file"
    with pytest.raises(RecNextError, match="frobnicate"):
        export_to(Broken(), tiny, spec, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(RecNextError, match="is a file: --output expects a folder"):
        export_to(target("torch"), tiny, spec, old)


class Full(type(target("torch"))):
    """A format on a disk that is full."""

    def export(self, module, spec, folder):
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_named_and_left_clean(tiny, tmp_path):
    with pytest.raises(OSError, match="No space left on device") as caught:
        export_to(Full(), tiny, described(tiny, size=(64, 64)), tmp_path / "out")
    assert caught.value.filename == str(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(tiny, tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(OSError, match="Permission denied: give another folder, --output") as caught:
        export_to(target("torch"), tiny, described(tiny, size=(64, 64)), tmp_path)
    assert caught.value.filename == str(tmp_path)


def test_files_without_a_proof_are_not_replaced(tmp_path):
    from recnext.deploy.export.job import require_place

    place = tmp_path / "x.onnx"
    require_place(place, overwrite=False)
    place.write_bytes(b"mine")
    with pytest.raises(RecNextError, match=r"x\.onnx already exists: give another output, or --overwrite it"):
        require_place(place, overwrite=False)
    require_place(place, overwrite=True)
    (tmp_path / "x.onnx.json").write_text("{}")
    require_place(place, overwrite=False)
    with pytest.raises(RecNextError, match=r"x\.onnx is read by this command, which will not replace it"):
        require_place(place, overwrite=True, inputs=[place])
    (tmp_path / "x.mlpackage").mkdir()
    with pytest.raises(RecNextError, match="exists and was not exported"):
        require_place(tmp_path / "x.mlpackage", overwrite=False)
