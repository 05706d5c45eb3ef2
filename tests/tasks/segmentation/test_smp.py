"""RecNeXt as encoder of segmentation_models.pytorch: a public library's decoders, through timm's features_only."""

import pytest
import torch

import recnext

smp = pytest.importorskip("segmentation_models_pytorch", reason="needs the smp extra")


@pytest.mark.parametrize("architecture", ["FPN", "Unet", "UPerNet"])
def test_as_encoder(architecture):
    torch.manual_seed(0)
    model = getattr(smp, architecture)("tu-recnext_m1", encoder_weights=None, classes=4)
    image = torch.randn(2, 3, 64, 96)
    logits = model(image)
    assert logits.shape == (2, 4, 64, 96)
    logits.mean().backward()
    encoder = [value for name, value in model.named_parameters() if name.startswith("encoder.")]
    assert all(value.grad is not None for value in encoder)
    assert model.encoder.out_channels[-4:] == [48, 96, 192, 384]


def test_encoders_fold():
    torch.manual_seed(0)
    model = smp.FPN("tu-recnext_m1", encoder_weights=None, classes=4).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected, folded = model(image), recnext.fuse(model)(image)
    assert (folded - expected).abs().max() < 1e-4 * expected.std()
