"""Receptive fields: the law k·2^level, the exact extent and the gradient agree where they should."""

import pytest
import torch

from recnext.nn.mixers.recconv import RecConv2d
from recnext.study.analysis.laws import measured_field
from recnext.study.analysis.receptive_field import (
    averaging,
    exact_receptive_field,
    influence,
    nominal_receptive_field,
    support,
    weight_within,
)

CASES = [(k, level) for k in (3, 5, 7) for level in range(4)] + [(5, 4)]


def coarsest_only(kernel_size: int, level: int, mode: str) -> RecConv2d:
    """RecConv whose `down` samples and whose finer convolutions copy: only the coarsest one is spread out."""
    mixer = RecConv2d(1, kernel_size, level=level, mode=mode).double()
    middle = kernel_size // 2
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
            parameter[0, 0, middle, middle] = 1
        mixer.convs[0].weight.fill_(1)
    return mixer


@pytest.mark.parametrize(("kernel_size", "level"), CASES)
def test_law_is_the_response_of_the_coarsest_convolution(kernel_size, level) -> None:
    reach, cell = nominal_receptive_field(kernel_size, level=level), 2**level
    assert reach == kernel_size * cell
    size = 4 * reach // cell * cell
    x = torch.zeros(1, 1, size, size, dtype=torch.double)
    middle = size // 2 // cell * cell
    x[0, 0, middle, middle] = 1
    with torch.no_grad():
        nearest = coarsest_only(kernel_size, level, "nearest")(x)[0, 0]
        bilinear = coarsest_only(kernel_size, level, "bilinear")(x)[0, 0]
    assert support(nearest) == support(nearest.T) == reach
    # each of the level resizings reaches one pixel further on both sides
    assert support(bilinear) == support(bilinear.T) == reach + 2 * (cell - 1)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(("kernel_size", "level"), CASES)
def test_gradient_reaches_exactly_as_far_as_computed(kernel_size, level, mode) -> None:
    widest, within = measured_field(kernel_size, level=level, mode=mode)
    reach = nominal_receptive_field(kernel_size, level=level)
    assert widest == exact_receptive_field(kernel_size, level=level, mode=mode)
    assert reach <= widest < 3 * reach
    assert within > (0.83 if level else 0.999)


def test_bilinear_reaches_further_than_nearest() -> None:
    for kernel_size, level in CASES:
        bilinear, nearest = (
            exact_receptive_field(kernel_size, level=level, mode=mode) for mode in ("bilinear", "nearest")
        )
        assert (bilinear == nearest == kernel_size) if level == 0 else bilinear > nearest


def test_the_published_mixers_reach() -> None:
    reaches = [exact_receptive_field(5, level=level) for level in (4, 3, 2, 1)]  # stages 0 to 3
    assert reaches == [221, 109, 49, 19]


def test_influence_is_centred_and_sums_to_the_average() -> None:
    mixer = averaging(RecConv2d(1, 3, level=1, bias=True))
    maps = list(influence(mixer, size=32, period=2))
    assert len(maps) == 2
    for weights in maps:
        # x is averaged once; the way down and up counts as much again
        assert weights.sum() == pytest.approx(2)
        rows, columns = weights.nonzero(as_tuple=True)
        assert abs(rows.double().mean() - 16) <= 1
        assert abs(columns.double().mean() - 16) <= 1


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_coarse_levels_lean_towards_the_first_pixel(mode) -> None:
    """`down` samples the even pixels, resizing takes them for the middle of two: half a coarse pixel a level."""
    size, before = 256, torch.zeros(256, 256, dtype=torch.double)
    places = torch.arange(size, dtype=torch.double) - size // 2
    for level in range(4):
        maps = influence(averaging(RecConv2d(1, 3, level=level, mode=mode)), size=size, period=2**level)
        weights = torch.stack(list(maps)).mean(0)
        columns = (weights - before).sum(0)  # of this level alone
        assert (columns * places).sum() / columns.sum() == pytest.approx(-(2**level - 1) / 2)
        before = weights


def test_weight_within_counts_the_centred_square() -> None:
    weights = torch.zeros(8, 8)
    weights[4, 4] = 3
    weights[0, 0] = 1
    assert weight_within(weights, width=3) == 0.75
    assert weight_within(weights, width=8) == 1
    assert support(weights) == 5
