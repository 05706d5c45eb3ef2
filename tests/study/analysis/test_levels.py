"""The levels of a mixer add up to its output, and spectra have the power of what made them."""

import pytest
import timm
import torch
from torch import nn

from checkpoints.files import TINY, network
from recnext.errors import RecNextError
from recnext.nn.fusion import fuse
from recnext.nn.mixers import RecAttn2d, RecConv2d
from recnext.study.analysis.levels import decompose, decompose_network, radial_power, recursive_mixers


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("level", [0, 1, 3])
def test_levels_of_recconv_add_up_to_its_output(level, mode, bias) -> None:
    torch.manual_seed(0)
    mixer = RecConv2d(3, 5, bias, level, mode).double()
    x = torch.randn(2, 3, 19, 22, dtype=torch.double)
    parts = decompose(mixer, x)
    torch.testing.assert_close(parts.output, mixer(x))
    assert [part.level for part in parts.levels] == list(range(level + 1))
    assert parts.levels[0].feature is x
    assert bool(parts.constant.any()) == bias
    assert sum(parts.shares()) == pytest.approx(1)


def test_a_level_is_what_the_network_gives_without_the_others() -> None:
    """With a finest convolution that copies and `down` that samples, level 0 adds the input itself."""
    mixer = RecConv2d(1, 3, level=1, mode="nearest").double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
            parameter[0, 0, 1, 1] = 1
        mixer.convs[0].weight.mul_(2)
    x = torch.randn(1, 1, 8, 8, dtype=torch.double)
    fine, coarse = decompose(mixer, x).levels
    torch.testing.assert_close(fine.added, x)
    torch.testing.assert_close(coarse.feature, x[..., ::2, ::2])
    torch.testing.assert_close(coarse.added, 2 * x[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_levels_of_attention_add_up_to_its_output(mode) -> None:
    torch.manual_seed(0)
    mixer = RecAttn2d(8, 2, mode=mode).double().eval()
    for norm in mixer.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
    x = torch.randn(2, 8, 9, 12, dtype=torch.double)
    parts = decompose(mixer, x)
    torch.testing.assert_close(parts.output, mixer(x))
    assert parts.levels[1].feature.shape == (2, 8, 5, 6)
    torch.testing.assert_close(parts.levels[1].feature, mixer.down(x))

    biased = RecAttn2d(8, 2, bias=True, norm=False).double()
    torch.testing.assert_close(decompose(biased, x).output, biased(x))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", TINY)
def test_every_mixer_of_a_network(name, fused) -> None:
    model = network(name)
    model = fuse(model) if fused else model
    x = torch.randn(1, 3, 64, 64)
    outputs = {}
    for place, mixer in recursive_mixers(model).items():
        mixer.register_forward_hook(lambda _m, _i, output, place=place: outputs.update({place: output}))
    last = list(recursive_mixers(model))[-1]
    shares, chosen, parts = decompose_network(model, x, block=last)
    assert chosen == last
    assert list(shares) == list(outputs)
    expected = outputs[chosen]
    torch.testing.assert_close(parts.output, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    for place, values in shares.items():
        assert sum(values) == pytest.approx(1, abs=1e-6), place
    assert not any(mixer._forward_hooks for mixer in recursive_mixers(network(name)).values())


def test_the_block_may_be_named_by_a_part_of_the_network() -> None:
    model = network()
    x = torch.randn(1, 3, 32, 32)
    assert decompose_network(model, x)[1] == "stages.0.blocks.0.token_mixer"
    assert decompose_network(model, x, block="stages.2.blocks.1")[1] == "stages.2.blocks.1.token_mixer"
    assert decompose_network(model, x, block="stages.2")[1] == "stages.2.blocks.0.token_mixer"
    with pytest.raises(RecNextError, match=r"no recursive token mixer is called 'stages.20': the network has stages.0"):
        decompose_network(model, x, block="stages.20")
    with pytest.raises(RecNextError, match="no recursive token mixer"):
        decompose_network(timm.create_model("test_resnet").eval(), x)


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])
def test_a_wave_has_its_power_at_its_frequency(shape) -> None:
    height, width = shape
    for cycles in (3, 6):
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        for wave in (
            torch.sin(2 * torch.pi * cycles * rows / height),
            torch.cos(2 * torch.pi * cycles * columns / width),
        ):
            frequencies, power = radial_power(wave)
            side = height if wave[0, 0] == wave[0, 1] else width
            nearest = (frequencies - cycles / side).abs().min()
            assert (frequencies[power.argmax()] - cycles / side).abs() <= nearest + 1 / min(shape)
            assert power.max() > 10 * power[-1]


def test_white_noise_has_its_variance_everywhere() -> None:
    torch.manual_seed(0)
    frequencies, power = radial_power(3 * torch.randn(400, 32, 32) + 7)
    assert len(frequencies) == 16
    assert frequencies[-1] == 0.5
    torch.testing.assert_close(power, torch.full_like(power, 9), rtol=0.06, atol=0)


def test_a_smaller_map_has_only_its_own_frequencies() -> None:
    """What an upsampled coarse map adds lies below its own highest frequency."""
    torch.manual_seed(0)
    coarse = torch.randn(50, 1, 8, 8)
    fine = nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
    frequencies, power = radial_power(fine)
    assert power[frequencies <= 1 / 8].mean() > 30 * power[frequencies > 1 / 4].mean()
