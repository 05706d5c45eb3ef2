"""Conversion of other networks: nine families of timm, every kind of convolution, the report, the fit."""

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.models.convmixer import ConvMixer
from timm.models.convnext import ConvNeXt
from timm.models.edgenext import EdgeNeXt
from timm.models.inception_next import InceptionDWConv2d, MetaNeXt
from timm.models.mambaout import MambaOut
from timm.models.metaformer import MetaFormer, SepConv
from timm.models.starnet import StarNet
from torch import Tensor, nn

import recnext
from recnext import RecConv2d, convert_large_kernels
from recnext.errors import RecNextError
from recnext.study.analysis.cost import count_macs, count_parameters
from recnext.study.analysis.receptive_field import reach
from recnext.study.large_kernels.forms import BandRecConv2d, recconv_like
from recnext.study.large_kernels.least_squares import impulses

SMALL = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 5}
# family: (a small network of it, convolutions replaced, large ones left alone)
FAMILIES: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "convnext": (lambda: ConvNeXt(**SMALL), 4, 0),
    "inception_next": (lambda: MetaNeXt(**{**SMALL, "dims": (16, 32, 48, 64)}, token_mixers=InceptionDWConv2d), 8, 0),
    "metaformer": (lambda: MetaFormer(**SMALL, token_mixers=SepConv), 4, 1),
    "mambaout": (lambda: MambaOut(**SMALL), 4, 0),
    "fastvit": (lambda: timm.create_model("fastvit_t8", layers=(1, 1, 1, 1), num_classes=5), 7, 0),
    "edgenext": (lambda: EdgeNeXt(**{**SMALL, "depths": (1, 1, 2, 2), "dims": (16, 16, 32, 32)}), 2, 0),
    "convmixer": (lambda: ConvMixer(dim=16, depth=2, kernel_size=7, num_classes=5), 2, 1),
    "rdnet": (lambda: timm.create_model("rdnet_tiny", **RDNET), 4, 0),
    "starnet": (lambda: StarNet(base_dim=8, depths=(1, 1, 1, 1), num_classes=5), 8, 0),
}
RDNET = {
    "growth_rates": (8, 8),
    "num_blocks_list": (2, 2),
    "bottleneck_width_ratio": 2,
    "block_type": ("Block", "Block"),
    "num_init_features": 16,
    "is_downsample_block": (None, True),
    "num_classes": 5,
}


def network(family: str) -> nn.Module:
    return FAMILIES[family][0]().eval()


def depthwise(channels: int = 3, kernel: Any = 7, stride: int = 1, dilation: int = 1, **options: Any) -> nn.Conv2d:
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = options.pop("padding", tuple(dilation * (k - 1) // 2 for k in kernel))
    return nn.Conv2d(
        channels, options.pop("out", channels), kernel, stride, padding, dilation, options.pop("groups", channels),
        **options,
    )  # fmt: skip


def image(size: int = 64, channels: int = 3, batch: int = 1) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    model, x = network(family), image()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    converted, report = convert_large_kernels(model, input_size=(3, 64, 64))
    _, replaced, skipped = FAMILIES[family]
    assert (len(report.replaced), len(report.skipped)) == (replaced, skipped), str(report)

    # the original is as it was, the copy has RecConv where the report says
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    for r in report.replaced:
        old, new = model.get_submodule(r.name), converted.get_submodule(r.name)
        assert isinstance(old, nn.Conv2d)
        assert any(isinstance(m, (RecConv2d, BandRecConv2d)) for m in new.modules()) or r.stride == 2
        assert r.receptive_field >= max(r.kernel)
        assert r.kernel_size * 2 ** (r.level - 1) < max(r.kernel)
        assert r.parameters == (count_parameters(old), count_parameters(new))
        assert r.macs is not None
        assert min(r.macs) > 0
    assert report.parameters == (count_parameters(model), count_parameters(converted))
    assert report.macs == (count_macs(model, (1, 3, 64, 64)), count_macs(converted, (1, 3, 64, 64)))
    changes = [sum(r.macs[i] for r in report.replaced if r.macs) for i in (0, 1)]
    assert report.macs[1] - report.macs[0] == changes[1] - changes[0]

    with torch.no_grad():
        expected = converted(x)
    assert expected.shape == (1, 5)
    # the weights go through a file into a second conversion
    stored = io.BytesIO()
    torch.save(converted.state_dict(), stored)
    stored.seek(0)
    again = convert_large_kernels(network(family), input_size=(3, 64, 64)).model
    again.load_state_dict(torch.load(stored, weights_only=True))
    with torch.no_grad():
        torch.testing.assert_close(again(x), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_export(family: str) -> None:
    converted, x = convert_large_kernels(network(family)).model, image()
    program = torch.export.export(converted, (x,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), converted(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["square", "band", "column", "stride", "widening", "dilated"])
@pytest.mark.parametrize("size", [32, 45])
def test_every_form_keeps_shape_and_receptive_field(kind: str, size: int) -> None:
    conv = {
        "square": lambda: depthwise(2, 11),
        "band": lambda: depthwise(2, (1, 11)),
        "column": lambda: depthwise(2, (11, 1)),
        "stride": lambda: depthwise(2, 11, 2),
        "widening": lambda: depthwise(2, 11, 2, out=4),
        "dilated": lambda: depthwise(2, 5, 1, 3),
    }[kind]()
    model, report = convert_large_kernels(nn.Sequential(conv), kernel_size=3)
    (r,) = report.replaced
    assert (r.level, r.receptive_field) == ((2, 12) if max(r.kernel) == 11 else (3, 24))
    assert r.macs is None
    x = image(size, 2).requires_grad_()
    assert model(x).shape == conv(x).shape
    with torch.no_grad():
        for parameter in [*model.parameters(), *conv.parameters()]:
            parameter.fill_(0.1)
    spans = []
    for module in (model, conv):
        output = module(x)
        middle = [n // 2 for n in output.shape[2:]]
        (gradient,) = torch.autograd.grad(output[0, 0, middle[0], middle[1]], x)
        seen = gradient[0, 0].nonzero()
        spans.append((seen.amax(0) - seen.amin(0) + 1).tolist())
    assert all(new >= old for new, old in zip(*spans, strict=True))
    if kind in ("band", "column"):
        assert min(spans[0]) == 1


def test_strided_form_is_recconv_without_its_finest_level() -> None:
    conv = depthwise(2, 15, 2, bias=False)
    module = recconv_like(conv, kernel_size=5, level=2, mode="nearest", bias=False)
    whole = RecConv2d(2, 5, level=2, mode="nearest")
    with torch.no_grad():
        module[0].weight.copy_(whole.down.weight)
        module[1].down.weight.copy_(whole.down.weight)
        for ours, theirs in zip(module[1].convs, whole.convs, strict=False):
            ours.weight.copy_(theirs.weight)
    x = image(32, 2)
    torch.testing.assert_close(module(x), whole.convs[1](whole.down(x) + up(whole.convs[0], whole, x)))


def up(coarsest: nn.Module, whole: RecConv2d, x: Tensor) -> Tensor:
    f2 = whole.down(whole.down(x))
    return nn.functional.interpolate(coarsest(f2), scale_factor=2.0, mode="nearest")


def test_band_is_the_recursion_along_one_axis() -> None:
    band, flat = BandRecConv2d(2, (1, 3), bias=True, level=2, mode="bilinear"), recnext.RecConv1d(2, 3, True, 2)
    flat.load_state_dict(
        {key: value.squeeze(2) if value.ndim == 4 else value for key, value in band.state_dict().items()}
    )
    x = torch.randn(2, 2, 5, 19)
    expected = flat(x.permute(0, 2, 1, 3).reshape(10, 2, 19)).reshape(2, 5, 2, 19).permute(0, 2, 1, 3)
    torch.testing.assert_close(band(x), expected)


@pytest.mark.parametrize(
    ("conv", "reason"),
    [
        (nn.Conv2d(3, 8, 7, 2, 3), r"mixes channels \(groups 1 of 3 channels\)"),
        (nn.Conv2d(8, 8, 7, padding=3, groups=2), "mixes channels"),
        (depthwise(kernel=8, padding=4), "kernel 8x8 is even"),
        (depthwise(kernel=(7, 5)), "neither square nor a band"),
        (depthwise(stride=4), "stride 4x4"),
        (depthwise(kernel=(1, 7), stride=2), "stride 2x2 with kernel 1x7"),
        (depthwise(out=6), "widens 3 channels to 6"),
        (depthwise(padding_mode="reflect"), "padding mode reflect"),
        (depthwise(padding=0), r"padding \(0, 0\) with kernel 7x7 does not keep the size"),
        (timm.layers.Conv2dSame(3, 3, 7, 2, groups=3), "is a Conv2dSame of stride 2x2"),
    ],
)
def test_what_is_left_alone_and_why(conv: nn.Conv2d, reason: str) -> None:
    model, report = convert_large_kernels(nn.Sequential(conv, nn.Conv2d(3, 3, 5, padding=2, groups=3)))
    assert report.replaced == ()
    (skipped,) = report.skipped
    assert skipped.name == "0"
    assert re.search(reason, skipped.reason)
    assert type(model[0]) is type(conv)


def test_same_padding_by_name_and_by_timm() -> None:
    model, report = convert_large_kernels(
        nn.Sequential(depthwise(padding="same"), timm.layers.Conv2dSame(3, 3, 9, groups=3))
    )
    assert len(report.replaced) == 2
    assert model(image(20)).shape == (1, 3, 20, 20)


def test_shared_layers_stay_shared_and_settings_carry_over() -> None:
    conv = depthwise(dtype=torch.float64).requires_grad_(False).eval()
    model, report = convert_large_kernels(nn.Sequential(conv, nn.ReLU(), conv), level=2, mode="nearest")
    assert [r.name for r in report.replaced] == ["0", "2"]
    assert model[0] is model[2]
    assert model[0].level == 2
    assert model[0].mode == "nearest"
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in model.parameters())
    assert not model[0].training
    torch.testing.assert_close(model[0].convs[-1].bias, conv.bias)
    assert not bool(model[0].down.bias.any())


def test_in_place_and_report() -> None:
    model = network("metaformer")
    converted, report = convert_large_kernels(model, inplace=True, input_size=(3, 64, 64))
    assert converted is model
    text = str(report)
    assert "4 convolutions replaced, 1 left alone" in text
    assert "MACs at 3x64x64" in text
    assert "stem.conv: left alone, mixes channels" in text
    assert json.loads(json.dumps(report.to_dict()))["replaced"][0]["kernel"] == [7, 7]
    assert timm.create_model("convnext_atto").training
    assert all(m.training for m in convert_large_kernels(network("convnext").train()).model.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"min_kernel": 5}, "min_kernel=5 must exceed kernel_size=5"),
        ({"level": "auto"}, "level='auto' must be 'match'"),
        ({"level": 0}, "level=0"),
        ({"mode": "cubic"}, "mode='cubic' must be one of bilinear, nearest"),
        ({"initialize": "zeros"}, "initialize='zeros' must be one of"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecNextError, match=message):
        convert_large_kernels(nn.Sequential(depthwise()), **options)
    with pytest.raises(RecNextError, match="meta device"):
        convert_large_kernels(nn.Sequential(depthwise(device="meta")), initialize="least_squares")


def gaussians(conv: nn.Conv2d) -> nn.Conv2d:
    """Smooth kernels of several widths, as trained large kernels tend to be."""
    height, width = conv.kernel_size
    with torch.no_grad():
        for i, kernel in enumerate(conv.weight):
            rows = torch.exp(-0.5 * ((torch.arange(height) - height // 2) / (1.2 + 0.5 * i)) ** 2)
            columns = torch.exp(-0.5 * ((torch.arange(width) - width // 2) / (2.2 - 0.3 * i)) ** 2)
            kernel[0] = torch.outer(rows, columns) * (1 + i)
    return conv


@pytest.mark.parametrize(
    ("conv", "most"),
    [
        (depthwise(4, 7), 0.15),
        (depthwise(4, (1, 11)), 0.15),
        (depthwise(2, 7, 2), 0.2),
        (depthwise(2, 3, 1, 3), 0.9),
    ],
    ids=["square", "band", "stride", "dilated"],
)
def test_fit_of_smooth_kernels(conv: nn.Conv2d, most: float) -> None:
    (r,) = (
        conversion := convert_large_kernels(nn.Sequential(gaussians(conv)), initialize="least_squares")
    ).report.replaced
    assert r.error is not None
    assert r.error < most
    # the reported error is that of the outputs on white noise, away from the border
    x = torch.randn(8, conv.in_channels, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = conversion.model(x), conv(x)
    inner = (slice(None), slice(None), slice(12, -12), slice(12, -12))
    bias = conv.bias[:, None, None]
    measured = (ours - theirs)[inner].square().mean().sqrt() / (theirs - bias)[inner].square().mean().sqrt()
    assert measured.item() == pytest.approx(r.error, rel=0.1)


def test_fit_finds_a_kernel_that_recconv_can_make() -> None:
    """A 5x5 kernel amid zeros is RecConv with an idle coarse level."""
    conv = depthwise(3, 7)
    with torch.no_grad():
        conv.weight.zero_()[:, :, 1:-1, 1:-1].normal_(generator=torch.Generator().manual_seed(0))
    conversion = convert_large_kernels(nn.Sequential(conv), initialize="least_squares")
    assert conversion.report.replaced[0].error < 0.02
    x = image(40)
    torch.testing.assert_close(conversion.model(x), conv(x), rtol=0.05, atol=0.1)


def test_fit_beats_chance_and_is_reproducible() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(depthwise(16))
    first, second = (convert_large_kernels(model, initialize="least_squares") for _ in range(2))
    torch.testing.assert_close(first.model.state_dict(), second.model.state_dict(), rtol=0, atol=0)
    # 24 of the 49 taps of a random kernel lie outside of the middle 5x5
    assert all(r.error is not None and 0.4 < r.error < 0.71 for r in first.report.replaced)
    assert "error 0." in str(first.report)


def test_reach_holds_every_response() -> None:
    for kernel_size, level in ((3, 1), (3, 2), (5, 1), (5, 2)):
        module = recconv_like(depthwise(1, 25), kernel_size=kernel_size, level=level, mode="bilinear", bias=False)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(1.0)
            distance = reach(kernel_size, level)
            furthest = 0
            for place in range(2**level):
                at = 128 + place
                x = torch.zeros(1, 1, 1, 256).expand(1, 1, 256, 256).clone()
                x[0, 0, at, at] = 1
                rows = module(x)[0, 0].sum(1).nonzero().flatten()
                furthest = max(furthest, at - int(rows.min()), int(rows.max()) - at)
        assert furthest == distance
    assert impulses(depthwise(2, 7), 10, 2).maps.shape == (4, 2, 22, 22)
