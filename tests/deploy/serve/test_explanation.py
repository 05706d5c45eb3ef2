import io

import pytest
import torch
from PIL import Image

pytest.importorskip("pytorch_grad_cam", reason="the explain extra is not installed")

from recnext.deploy.serve.decoding import UploadDecoder
from recnext.deploy.serve.explanation import overlay
from recnext.deploy.serve.limits import Limits


def test_map_of_the_class(classifier, digit):
    decoder = UploadDecoder(classifier.preparation.evaluation_transform(), classifier.channels, Limits())
    image = torch.from_numpy(decoder(digit.read_bytes(), None).pixels)
    best, other = (classifier.explain(image, label=label) for label in (7, 1))
    assert best.shape == other.shape == (32, 32)
    for heat in (best, other):
        assert float(heat.min()) == pytest.approx(0, abs=1e-3)
        assert float(heat.max()) == pytest.approx(1, abs=1e-2)
    assert not torch.allclose(best, other, atol=0.1)
    assert torch.equal(classifier.explain(image), best)
    assert all(parameter.grad is None for parameter in classifier.network.parameters())


def test_overlay_keeps_dark_what_is_cold():
    heat = torch.zeros(8, 8)
    heat[2, 3] = 1
    with Image.open(io.BytesIO(overlay(torch.full((1, 8, 8), 100, dtype=torch.uint8), heat))) as drawn:
        assert (drawn.size, drawn.mode) == ((8, 8), "RGB")
        assert sum(drawn.getpixel((3, 2))) > 500
        assert sum(drawn.getpixel((0, 0))) < 250


def test_over_http(server, digit):
    answer = server.ask("POST", "/v1/explain?label=7", digit.read_bytes())
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.body)) as drawn:
        assert drawn.size == (32, 32)
    assert server.ask("POST", "/v1/explain", digit.read_bytes()).body == answer.body
    wrong = server.ask("POST", "/v1/explain?label=10", digit.read_bytes())
    assert (wrong.status, wrong.error) == (422, "label 10: there are 10 classes, from 0")
    assert server.ask("POST", "/v1/explain", b"hello").status == 415
