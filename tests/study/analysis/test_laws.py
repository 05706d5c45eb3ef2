"""The laws hold: parameters (level + 2)·k²·c, MACs at most 5/3, against 4^level of a plain convolution."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from recnext.nn.mixers.recconv import RecConv2d
from recnext.study.analysis.cost import count_macs, count_parameters
from recnext.study.analysis.laws import law, plain_convolution


@pytest.mark.parametrize("level", range(6))
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_parameters_and_macs(level, kernel_size, mode) -> None:
    channels, size = 6, 64
    mixer = RecConv2d(channels, kernel_size, level=level, mode=mode)
    finest = kernel_size**2 * channels * size**2
    assert count_parameters(mixer) == (level + 2) * kernel_size**2 * channels
    # level i has two convolutions on 4^-i of the pixels: 1 + 2 (1/4 + ... + 1/4^l)
    ratio = Fraction(count_macs(mixer, (1, channels, size, size)), finest)
    assert ratio == 1 + Fraction(2, 3) * (1 - Fraction(1, 4**level)) < Fraction(5, 3)


@pytest.mark.parametrize("level", range(4))
def test_plain_convolution_costs_4_to_the_level(level) -> None:
    row = law(level, kernel_size=3, channels=4, size=16)
    assert row.plain.parameters == 4**level * 9 * 4
    assert row.plain.macs == 4**level * 9 * 4 * 16**2
    assert row.receptive_field == 3 * 2**level
    assert row.recconv.seconds is None


@pytest.mark.parametrize("kernel_size", [1, 4, 5, 12])
def test_plain_convolution_keeps_the_size(kernel_size) -> None:
    assert plain_convolution(2, kernel_size)(torch.zeros(1, 2, 9, 14)).shape == (1, 2, 9, 14)


def test_count_macs_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5))
    assert count_macs(model, (2, 3, 4, 4)) == 2 * (16 * 4 * 3 * 9 + 64 * 5)
    assert model.training
    assert model[1].num_batches_tracked == 0
