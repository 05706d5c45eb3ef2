"""How the effective receptive field of RecConv grows with its level, beside the law k·2^level."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from .erf import SHARES, centre_of_mass, contribution_areas
from .receptive_field import exact_receptive_field, nominal_receptive_field, recconv_influences


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One RecConv with averaging kernels.

    Attributes:
        level: number of halvings l.
        law: k·2^l in pixels of the map.
        sides: pixels of the squares, about the centre of mass, that hold the shares asked for.
        reach: pixels in a row that have any influence at all.
    """

    level: int
    law: int
    sides: tuple[int, ...]
    reach: int


def growth(
    kernel_size: int = 5, *, levels: int = 5, mode: str = "bilinear", shares: Sequence[float] = SHARES
) -> Iterator[Growth]:
    """Measures RecConv2d of 0 to `levels` levels by gradients, averaged over the positions in its cell.

    The kernels average over their windows: the field that the structure gives, before training shapes it.

    Args:
        kernel_size: k, odd.
        levels: the largest level.
        mode: "bilinear" or "nearest".
        shares: of the influence, for the squares.
    """
    for level in range(levels + 1):
        weights = torch.stack(recconv_influences(kernel_size, level=level, mode=mode)).mean(0)
        row, column = centre_of_mass(weights)
        areas = contribution_areas(weights, shares, centre=(round(row), round(column)))
        yield Growth(
            level=level,
            law=nominal_receptive_field(kernel_size, level=level),
            sides=tuple(area.side for area in areas),
            reach=exact_receptive_field(kernel_size, level=level, mode=mode),
        )
