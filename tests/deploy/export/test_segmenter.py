import numpy as np
import pytest
import torch

from recnext.deploy.export.segmenter import export
from recnext.errors import RecNextError
from recnext.tasks.segmentation import build

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = build("test_recnext_m", num_classes=5, neck_channels=16, head_channels=8)
    network.class_names = tuple("abcde")
    return network.eval()


@pytest.mark.slow
def test_onnx_gives_the_same_logits_for_any_batch_and_size(model, tmp_path):
    made = export(model, tmp_path, size=(64, 96))
    assert made.path == tmp_path / "semantic_fpn_test_recnext_m.onnx"
    assert made.norms == 0
    assert max(comparison.relative for comparison in made.comparisons) < 1e-5
    session = onnxruntime.InferenceSession(str(made.path))
    assert session.get_outputs()[0].name == "logits"
    for shape in ((1, 3, 64, 96), (2, 3, 75, 50), (1, 3, 96, 33)):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            expected = model(image).numpy()
        got = session.run(None, {"image": image.numpy()})[0]
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() < 1e-4 * expected.std()


def test_what_cannot_be_exported(model, tmp_path):
    with pytest.raises(RecNextError, match="onx"):
        export(model, tmp_path, target="onx")
    assert list(tmp_path.iterdir()) == []
