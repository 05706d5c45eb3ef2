"""Token mixers by name in the M networks: published parameter counts, every name runs, mistakes are told."""

import pytest
import timm
import torch
from torch import nn

import recnext
from recnext.checkpoints.published import published
from recnext.errors import RecNextError
from recnext.nn.mixers.recconv import RecConv2d
from recnext.nn.mixers.registry import DEFAULT_TOKEN_MIXER, create_token_mixer, token_mixer_names

ROWS = {row["variant"]: row["params"] for row in published()["ablation_recnext_m1"]}


@pytest.mark.parametrize("name", ROWS)
def test_published_parameter_counts(name) -> None:
    with torch.device("meta"):
        model = timm.create_model("recnext_m1", token_mixer=name)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == ROWS[name]


def test_every_design_of_the_ablation_is_named() -> None:
    assert set(ROWS) <= set(token_mixer_names())
    assert DEFAULT_TOKEN_MIXER in ROWS


@pytest.mark.parametrize("name", token_mixer_names(kernels=(3,)))
def test_network_runs_trains_and_fuses(name) -> None:
    model = timm.create_model("test_recnext_m", token_mixer=name, num_classes=5)
    x = torch.randn(2, 3, 64, 128)
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for n, p in model.named_parameters() if "dist" not in n)
    model.eval()
    with torch.inference_mode():
        expected = model(x)
        torch.testing.assert_close(recnext.fuse(model)(x), expected, rtol=1e-4, atol=1e-5)


def test_default_is_the_published_mixer() -> None:
    model = timm.create_model("test_recnext_m")
    levels = [stage.blocks[0].token_mixer.level for stage in model.stages]
    assert levels == [4, 3, 2, 1]
    assert create_token_mixer(DEFAULT_TOKEN_MIXER, 8, 1).mode == "bilinear"


def test_callable_gets_channels_and_stage() -> None:
    seen = []

    def mixer(channels: int, stage: int) -> nn.Module:
        seen.append((channels, stage))
        return RecConv2d(channels, 3, level=1)

    model = timm.create_model("test_recnext_m", token_mixer=mixer)
    assert seen == [(16, 0), (32, 1), (64, 2), (64, 2), (128, 3)]
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 1000)


def test_callable_is_moved_to_device_and_dtype() -> None:
    module = create_token_mixer(lambda channels, stage: nn.Conv2d(channels, channels, 1), 4, 0, dtype=torch.double)
    assert module.weight.dtype == torch.double


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rec_5x5_bilinar", "unknown token mixer 'rec_5x5_bilinar': did you mean rec_5x5_bilinear"),
        ("rec_7x7", "unknown token mixer 'rec_7x7': did you mean"),
        ("7x7_nearest", "unknown token mixer"),
        ("zzz", "unknown token mixer 'zzz': there are 3x3"),
        ("rec_4x4_nearest", "must be square and odd"),
        ("3x5", "must be square and odd"),
        ("0x0", "must be square and odd"),
    ],
)
def test_unknown_names(name, message) -> None:
    with pytest.raises(RecNextError, match=message):
        create_token_mixer(name, 8, 0)


def test_callable_that_makes_no_module() -> None:
    with pytest.raises(RecNextError, match=r"token_mixer returned int for 8 channels at stage 2"):
        create_token_mixer(lambda channels, stage: 3, 8, 2)


def test_image_size_refused_in_a_network() -> None:
    model = timm.create_model("test_recnext_m", token_mixer="rec_3x3_conv_transpose")
    with pytest.raises(RecNextError, match="multiples of 64, such as 256, 320 or 384"):
        model(torch.zeros(1, 3, 96, 96))
