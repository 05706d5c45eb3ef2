import json

import numpy as np
import pytest
import torch
from torch import nn

from checkpoints.files import network
from recnext.checkpoints import load
from recnext.deploy.export import TARGETS, ExportSpec, described, target, targets
from recnext.deploy.export.preprocess import Preprocessed
from recnext.deploy.export.proof import compare_outputs, proof_shapes
from recnext.deploy.export.targets import target_of_file
from recnext.errors import MissingExtraError, RecNextError


def test_a_network_describes_itself():
    model = load("test_recnext_m", num_classes=3)
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": ("ant", "bee", "cat"), "mean": (0.1, 0.2, 0.3)}
    spec = described(model, size=(64, 96))
    assert (spec.name, spec.size, spec.outputs, spec.classifier) == ("test_recnext_m", (64, 96), ("logits",), True)
    assert spec.class_names == ("ant", "bee", "cat")
    header = spec.header()
    assert json.loads(header["recnext.mean"]) == [0.1, 0.2, 0.3]
    assert json.loads(header["recnext.class_names"]) == ["ant", "bee", "cat"]


def test_networks_of_1000_classes_have_imagenets_names():
    assert "tench" in described(load("test_recnext_m"), size=(32, 32)).class_names[0]
    assert described(load("test_recnext_m", num_classes=12), size=(32, 32)).class_names is None


def test_a_backbone_has_four_outputs_and_no_classes():
    spec = described(load("test_recnext_m", features_only=True), size=(64, 64), preprocess=True)
    assert spec.outputs == ("features_0", "features_1", "features_2", "features_3")
    assert not spec.classifier


def test_other_channels_get_as_many_means():
    assert len(described(load("test_recnext_m", in_chans=1), size=(64, 64)).mean) == 1


def test_a_foreign_network_is_described_too():
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"0": x, "pool": x[..., ::2, ::2]}

    assert described(Two(), size=(32, 32), channels=3).outputs == ("features_0", "features_pool")


def test_preprocessing_is_what_training_does():
    """Oracle: recnext.data.normalise, then softmax."""
    from recnext.data import normalise

    model = network().eval()
    spec = described(model, size=(32, 32), preprocess=True)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    images = normalise(pixels, mean=spec.mean, std=spec.std, device=torch.device("cpu"))
    with torch.no_grad():
        actual = Preprocessed(model, spec)(pixels.permute(0, 2, 3, 1))
        torch.testing.assert_close(actual, model(images).softmax(1))


def test_the_proof_sees_wrong_outputs():
    expected = [np.array([[0.0, 10.0], [4.0, 0.0]], dtype=np.float32)]
    wrong = [np.array([[0.0, 10.0], [4.0, 5.0]], dtype=np.float32)]
    row = compare_outputs(expected, wrong, shape=(2, 3, 32, 32), classifier=True)
    assert (row.absolute, row.relative, row.agreement) == (5.0, 0.5, 0.5)
    nothing = [np.full((2, 2), np.nan, dtype=np.float32)]
    for before, after in ((expected, nothing), (nothing, expected), (nothing, nothing)):
        assert compare_outputs(before, after, shape=(2,), classifier=True).relative == float("inf")
    assert compare_outputs(expected, [wrong[0][:1]], shape=(2,), classifier=True).relative == float("inf")


def test_dynamic_files_are_proved_on_odd_sizes_and_other_batches():
    shapes = proof_shapes(ExportSpec())
    assert (1, (224, 224)) in shapes
    assert (3, (224, 224)) in shapes
    assert any(height % 2 and width % 2 for _, (height, width) in shapes)
    assert proof_shapes(ExportSpec(dynamic_batch=False, dynamic_size=False, batch=4)) == [(4, (224, 224))]


def test_mistakes_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(RecNextError, match=r"no export target is called 'onx': did you mean 'onnx'\?"):
        targets(["torch", "onx"])
    with pytest.raises(RecNextError, match="no export target is given"):
        targets([])
    with pytest.raises(RecNextError, match="expected a name ending in"):
        target_of_file(tmp_path / "x.bin")
    with pytest.raises(RecNextError, match="precision 'bf16': expected fp32, fp16, int8"):
        ExportSpec(precision="bf16")
    with pytest.raises(RecNextError, match="32 pixels a side"):
        ExportSpec(size=(16, 64))
    with pytest.raises(RecNextError, match="opset 9: expected 18 to"):
        target("onnx").check(ExportSpec(opset=9))
    with pytest.raises(RecNextError, match="needs images to calibrate on"):
        target("onnx").check(ExportSpec(precision="int8"))
    with pytest.raises(RecNextError, match="torch has no int8"):
        target("torch").check(ExportSpec(precision="int8"))
    with pytest.raises(RecNextError, match="does not run on an image"):
        described(nn.Linear(3, 4), size=(32, 32))
    monkeypatch.setattr(type(target("onnx")), "packages", ("no_such_package",))
    with pytest.raises(MissingExtraError, match=r"pip install 'recnext\[export\]'"):
        target("onnx").require()


def test_every_target_names_its_extra():
    for name in TARGETS:
        found = target(name)
        assert found.name == name
        assert found.suffix.startswith(".")
        assert found.extra or found.packages == ("torch",)
