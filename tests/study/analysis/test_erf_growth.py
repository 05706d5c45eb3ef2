"""What RecConv's levels and token mixers reach, against the law and hand-counted kernels."""

import itertools

import timm
import torch
from torch import nn

from recnext.study.analysis.erf_growth import growth
from recnext.study.analysis.mixer_span import mixer_spans
from recnext.study.analysis.receptive_field import exact_receptive_field


def test_growth_follows_the_law_and_stays_within_reach() -> None:
    steps = list(growth(3, levels=3, shares=(0.5, 1.0)))
    assert [step.law for step in steps] == [3, 6, 12, 24]
    for before, after in itertools.pairwise(steps):
        assert all(later >= earlier for earlier, later in zip(before.sides, after.sides, strict=True))
    for step in steps:
        assert step.reach == exact_receptive_field(3, level=step.level)
        # everything lies within the reach of one position and the shifts within a cell
        assert step.reach <= step.sides[1] <= step.reach + 2 * 2**step.level
    assert steps[0].sides == (3, 3)  # a plain 3x3 average: the centre alone holds 1/9


def test_spans_are_the_largest_kernels_in_pixels_of_the_image() -> None:
    def spans(name: str) -> list[tuple[int, int | None, int | None]]:
        return [(s.stride, s.kernel, s.pixels) for s in mixer_spans(timm.create_model(name, device="meta"))]

    assert spans("recnext_m3") == [(4, 80, 320), (8, 40, 320), (16, 20, 320), (32, 10, 320)]
    assert spans("convnext_tiny") == [(4, 7, 28), (8, 7, 56), (16, 7, 112), (32, 7, 224)]
    assert spans("resnet18") == [(4, 3, 12), (8, 3, 24), (16, 3, 48), (32, 3, 96)]
    assert spans("vit_tiny_patch16_224") == [(16, None, None)]
    assert spans("recnext_a0") == [(stride, None, None) for stride in (4, 8, 16, 32)]
    assert [kernel for _, kernel, _ in spans("swin_tiny_patch4_window7_224")] == [7] * 4


def test_networks_without_stages_have_no_spans() -> None:
    assert mixer_spans(nn.Sequential(nn.Conv2d(3, 3, 5))) == []


def test_levels_are_those_of_the_stages() -> None:
    with torch.device("meta"):
        model = timm.create_model("recnext_m1")
    assert [span.level for span in mixer_spans(model)] == [4, 3, 2, 1]
