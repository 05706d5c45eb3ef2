"""Effective receptive fields: how much every pixel of the image moves the centre of a network's last map.

The measure is that of RepLKNet (arXiv 2203.06717, section 4.1), which RecNeXt's paper uses too: the sum over
channels of the centre of the map, through a ReLU, is differentiated by the image; the positive part of that gradient
is summed over colours and averaged over images.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from recnext.errors import RecNextError
from recnext.nn.stage_map import stage_map

SHARES = (0.2, 0.3, 0.5, 0.99)
"""Of the contribution, as in RepLKNet's table."""

_ROUNDING = 1e-9  # of a share: sums of many small weights


def effective_receptive_field(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    stage: int = -1,
    on_batch: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """The averaged contribution of every pixel to the centre of a stage's map.

    The centre is position (h // 2, w // 2) of the (h, w) map.

    Args:
        model: any timm network; put into eval mode.
        batches: normalised images, each (N, C, H, W), all of one size, on the network's device.
        stage: as of `stage_map`.
        on_batch: called with the number of images done, for progress.

    Returns:
        (H, W) float64 on the CPU, not negative.

    Raises:
        RecNextError: there are no images, the map does not depend on them, or what `stage_map` refuses.
    """
    model.eval()
    total, count = None, 0
    for batch in batches:
        images = batch.detach().requires_grad_()
        with torch.enable_grad():
            features = stage_map(model, images, stage=stage)
            height, width = features.shape[-2:]
            centre = F.relu(features[:, :, height // 2, width // 2]).sum()
            (gradient,) = torch.autograd.grad(centre, images)
        contribution = gradient.detach().relu().sum((0, 1), dtype=torch.float64).cpu()
        total = contribution if total is None else total + contribution
        count += len(batch)
        on_batch(len(batch))
    if total is None:
        raise RecNextError("an effective receptive field needs at least one image")
    if not torch.isfinite(total).all() or float(total.sum()) <= 0:
        raise RecNextError(
            f"the centre of the last map of {type(model).__name__} does not answer to these images: "
            "its gradient is zero or not finite"
        )
    return total / count


@torch.no_grad()
def settle_norms(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Gives every BatchNorm the statistics of some images, in place: what a network without training lacks.

    With those of a new network, mean 0 and variance 1, the branches fade away next to the residual connections. The
    classifier is left as it is, where the network has ``forward_features``.

    Args:
        model: left in eval mode.
        batches: normalised images (N, C, H, W).

    Raises:
        RecNextError: it cannot take such images, or a map of one position and one image has no variance.
    """
    run = getattr(model, "forward_features", model)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over the batches
        norm.train()
    try:
        for batch in batches:
            run(batch)
    except (AssertionError, RuntimeError, ValueError) as error:
        if isinstance(error, RecNextError):
            raise
        raise RecNextError(
            f"{type(model).__name__} cannot take these images ({error}): take other sizes, or more images at once"
        ) from None
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """The smallest centred square that holds a share of the contribution.

    Attributes:
        share: of the whole contribution, 0 to 1.
        side: of the square in pixels, odd.
        area: the part of the image within the square, 0 to 1.
    """

    share: float
    side: int
    area: float


def centre_of_mass(weights: Tensor) -> tuple[float, float]:
    """Row and column about which a map (H, W) balances, in pixels; whole numbers are the middles of pixels."""
    rows, columns = (torch.arange(side, dtype=weights.dtype) for side in weights.shape)
    total = weights.sum()
    return float((weights.sum(1) @ rows) / total), float((weights.sum(0) @ columns) / total)


def contribution_curve(weights: Tensor, *, centre: Optional[tuple[int, int]] = None) -> Tensor:
    """The share of a map (H, W) within squares of 1, 3, 5, ... pixels.

    Args:
        weights: not negative.
        centre: row and column of the middle of the squares; by default (H // 2, W // 2).

    Returns:
        (squares,) float64 that rises to 1; index r is the square of 2 r + 1 pixels.
    """
    rings = torch.bincount(_distance(weights, centre).flatten(), weights=weights.flatten().double())
    return rings.cumsum(0) / rings.sum()


def contribution_areas(
    weights: Tensor, shares: Sequence[float] = SHARES, *, centre: Optional[tuple[int, int]] = None
) -> list[Contribution]:
    """The smallest squares that hold given shares of a map (H, W); they are cut where the image ends.

    Args:
        weights: not negative.
        shares: each above 0, at most 1.
        centre: row and column of the middle of the squares; by default (H // 2, W // 2).
    """
    curve, distance = contribution_curve(weights, centre=centre), _distance(weights, centre)
    found = []
    for share in shares:
        radius = int((curve >= share - _ROUNDING).nonzero()[0])
        area = float((distance <= radius).double().mean())
        found.append(Contribution(share=share, side=2 * radius + 1, area=area))
    return found


def _distance(weights: Tensor, centre: Optional[tuple[int, int]]) -> Tensor:
    """Chebyshev distance of every pixel to the centre, int64 (H, W)."""
    height, width = weights.shape
    row, column = centre or (height // 2, width // 2)
    rows, columns = (torch.arange(height) - row).abs(), (torch.arange(width) - column).abs()
    return torch.maximum(rows[:, None], columns[None])
