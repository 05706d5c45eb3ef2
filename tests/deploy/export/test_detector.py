import numpy as np
import pytest
import torch

from recnext.deploy.export.detector import export_pyramid
from recnext.errors import RecNextError
from tasks.detection.detectors import tiny


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_recnext_m", "test_recnext_l"])
def test_pyramid_as_onnx_gives_the_same_maps(tmp_path, backbone):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = tiny(backbone=backbone)
    error = export_pyramid(model, tmp_path / "pyramid.onnx", size=(64, 96))
    assert error < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "pyramid.onnx"), providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, 64, 96)  # another batch than that of the export
    outputs = session.run(None, {"images": images.numpy()})
    with torch.inference_mode():
        expected = list(model.backbone(images).values())
    assert [entry.name for entry in session.get_outputs()] == [f"level{level}" for level in range(5)]
    for actual, level in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(actual, level.numpy(), rtol=0, atol=1e-3 * float(level.std()))


def test_sizes_are_multiples_of_32(tmp_path):
    with pytest.raises(RecNextError, match="size 100x96: expected multiples of 32"):
        export_pyramid(tiny(), tmp_path / "pyramid.onnx", size=(100, 96))
