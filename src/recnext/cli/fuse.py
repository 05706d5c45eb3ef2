"""`recnext fuse`: a checkpoint for inference, without BatchNorms, and the proof that it is the same network."""

from typing import Optional

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from recnext.checkpoints import save
from recnext.checkpoints.loading import build, check_name
from recnext.checkpoints.reading import read_weights
from recnext.checkpoints.saving import checked_output
from recnext.nn.fusion import batchnorms, fuse
from recnext.study.analysis.cost import count_parameters

TOLERANCE = 1e-4  # largest difference of the outputs over their spread


def run(checkpoint: str, output: str, *, model: Optional[str] = None, ema: bool = False) -> int:
    """Folds every BatchNorm of a checkpoint and checks that the outputs stay the same.

    Exits with 1, writing nothing, when they differ by more than 1e-4 of their spread.

    Args:
        checkpoint: weight file, run folder or hub id.
        output: the .safetensors file to write.
        model: name of the network, where the checkpoint does not tell it.
        ema: take the moving average of the weights.
    """
    path = checked_output(output)
    if model is not None:
        check_name(model)
    weights = read_weights(checkpoint, ema=ema)
    network = build(model, weights)
    fused = fuse(network)
    difference = relative_difference(network, fused)
    problem = _problem(fused, difference)

    table = Table(box=box.SIMPLE)
    for title in ("", "before", "after"):
        table.add_column(title, justify="right" if title else "left")
    table.add_row("parameters", *(f"{count_parameters(part):,}" for part in (network, fused)))
    table.add_row("BatchNorms", *(str(len(batchnorms(part))) for part in (network, fused)))
    table.add_row("largest relative difference", "", f"{difference:.1e}")
    console = Console()
    console.print(table)
    if problem:
        Console(stderr=True).print(
            f"recnext: error: {problem}: nothing written", highlight=False, markup=False, soft_wrap=True
        )
        return 1
    save(fused, path, epoch=weights.metadata.epoch if weights.metadata else None)
    console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    return 0


def _problem(fused: nn.Module, difference: float) -> str:
    """Why the fused network must not be written; empty when it may."""
    left = batchnorms(fused)
    if left:
        name = fused.pretrained_cfg["architecture"]  # type: ignore[index]
        return f"{len(left)} BatchNorms of {name} cannot be folded, {left[0]} the first"
    return "" if difference <= TOLERANCE else f"the fused network differs by {difference:.1e}, over {TOLERANCE:.0e}"


@torch.inference_mode()
def relative_difference(network: nn.Module, fused: nn.Module) -> float:
    """The largest difference of two networks' outputs on noise, over the spread of the first one's."""
    size = network.pretrained_cfg["input_size"]  # type: ignore[index]
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))  # type: ignore[misc]
    expected, actual = network.eval()(images), fused(images)
    spread: Tensor = expected.max() - expected.min()
    return float((actual - expected).abs().max() / spread.clamp_min(torch.finfo(spread.dtype).tiny))
