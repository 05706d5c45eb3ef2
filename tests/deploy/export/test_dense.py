"""Detectors and segmenters, as far as a graph of fixed structure can hold them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recnext.deploy.export import export
from recnext.deploy.export.files import ExportedNetwork
from recnext.tasks.segmentation import build
from tasks.detection.detectors import tiny

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_recnext_m", "test_recnext_l"])
def test_of_a_detector_backbone_and_pyramid(tmp_path: Path, backbone: str) -> None:
    model = tiny(backbone=backbone)
    (made,) = export(model, tmp_path, size=(64, 96), name="pyramid")
    assert made.problem == ""
    session = onnxruntime.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, 96, 64)  # of another batch and size than that of the export
    with torch.inference_mode():
        expected = list(model.backbone(images).values())
    for actual, level in zip(session.run(None, {"image": images.numpy()}), expected, strict=True):
        np.testing.assert_allclose(actual, level.numpy(), rtol=0, atol=1e-3 * float(level.std()))


@pytest.mark.slow
def test_of_a_segmenter_its_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build("test_recnext_m", num_classes=5, neck_channels=16, head_channels=8).eval()
    model.class_names = tuple("abcde")
    (made,) = export(model, tmp_path, size=(64, 96))
    assert made.path == tmp_path / "test_recnext_m_segmenter.onnx"
    assert [port.name for port in made.contents.outputs] == ["logits"]
    assert max(comparison.relative for comparison in made.comparisons) < 1e-5
    assert ExportedNetwork(made.path, maps=True).spec.class_names == model.class_names
    image = torch.randn(2, 3, 75, 50, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(image).numpy()
    session = onnxruntime.InferenceSession(str(made.path))
    np.testing.assert_allclose(session.run(None, {"image": image.numpy()})[0], expected, atol=1e-4 * expected.std())
