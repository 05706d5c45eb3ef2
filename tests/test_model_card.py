"""The usage of the published model card runs as written once `recnext` is imported.

The two lookups it makes are answered here: the picture with one drawn below, the hub with weights made on the spot.
"""

import io
import sys
from urllib import request

import pytest
import timm
import torch
from PIL import Image

import recnext
from recnext.nn.fusion import batchnorms

CLASSIFICATION = """
from urllib.request import urlopen
from PIL import Image
import timm
import torch

img = Image.open(urlopen(
    'https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/beignets-task-guide.png'
))

model = timm.create_model('recnext_t', pretrained=True, distillation=False)
model = model.eval()

data_config = timm.data.resolve_model_data_config(model)
transforms = timm.data.create_transform(**data_config, is_training=False)

output = model(transforms(img).unsqueeze(0))
top5_probabilities, top5_class_indices = torch.topk(output.softmax(dim=1) * 100, k=5)
"""

INFERENCE_MODE = """
import utils

utils.replace_batchnorm(model)
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answers the hub with random weights and the network with a picture; returns the ids asked for."""
    asked: list[str] = []

    def weights(hub_id: str, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:
        asked.append(hub_id)
        torch.manual_seed(0)
        return timm.create_model("recnext_t").state_dict()

    def picture(url: str) -> io.BytesIO:
        buffer = io.BytesIO()
        Image.radial_gradient("L").convert("RGB").save(buffer, "png")
        buffer.seek(0)
        return buffer

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", weights)
    monkeypatch.setattr(request, "urlopen", picture)
    return asked


def test_model_card_usage(hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict = {}
    exec(CLASSIFICATION, names)
    assert hub == ["suous/recnext_t.base_300e_in1k"]
    assert names["data_config"]["input_size"] == (3, 224, 224)
    assert names["data_config"]["crop_pct"] == 0.875
    assert names["top5_class_indices"].shape == (1, 5)
    assert 0 < names["top5_probabilities"].sum() <= 100

    # the card's `utils` is the published repository's own module; here it is `recnext`
    monkeypatch.setitem(sys.modules, "utils", recnext)
    x = torch.randn(1, 3, 64, 64)
    expected = names["model"](x)
    exec(INFERENCE_MODE, names)
    assert batchnorms(names["model"]) == []
    torch.testing.assert_close(names["model"](x), expected, rtol=1e-4, atol=1e-4)
