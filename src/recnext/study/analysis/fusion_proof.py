"""The proof that a network with its BatchNorms folded is the same network."""

import torch
from torch import Tensor, nn

from recnext.nn.fusion import batchnorms

TOLERANCE = 1e-4  # largest difference of the outputs over their spread


@torch.inference_mode()
def relative_difference(network: nn.Module, fused: nn.Module) -> float:
    """The largest difference of two networks' outputs on noise, over the spread of the first one's."""
    size = network.pretrained_cfg["input_size"]  # type: ignore[index]
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))  # type: ignore[misc]
    expected, actual = network.eval()(images), fused(images)
    spread: Tensor = expected.max() - expected.min()
    return float((actual - expected).abs().max() / spread.clamp_min(torch.finfo(spread.dtype).tiny))


def find_problem(fused: nn.Module, difference: float) -> str:
    """Why the fused network must not be written; empty when it may."""
    left = batchnorms(fused)
    if left:
        name = fused.pretrained_cfg["architecture"]  # type: ignore[index]
        return f"{len(left)} BatchNorms of {name} cannot be folded, {left[0]} the first"
    return "" if difference <= TOLERANCE else f"the fused network differs by {difference:.1e}, over {TOLERANCE:.0e}"
