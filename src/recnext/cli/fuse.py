"""`recnext fuse`: a checkpoint for inference, without BatchNorms, and the proof that it is the same network."""

from typing import Optional

from recnext.checkpoints import save
from recnext.checkpoints.loading import build, check_name
from recnext.checkpoints.reading import read_weights
from recnext.checkpoints.saving import checked_output
from recnext.files import require_output
from recnext.nn.fusion import batchnorms, fuse
from recnext.screen import Screen
from recnext.study.analysis.cost import count_parameters
from recnext.study.analysis.fusion_proof import find_problem, relative_difference

from .shared import make_table


def run(
    checkpoint: str, output: str, *, model: Optional[str] = None, ema: bool = False, overwrite: bool = False
) -> int:
    """Folds every BatchNorm of a checkpoint and checks that the outputs stay the same.

    Exits with 1, writing nothing, when they differ by more than 1e-4 of their spread.

    Args:
        checkpoint: weight file, run folder or hub id.
        output: the .safetensors file to write.
        model: name of the network, where the checkpoint does not name it.
        ema: take the moving average of the weights.
        overwrite: replace files that this command did not write.
    """
    path = checked_output(output)
    require_output(path, overwrite=overwrite, mark='"recnext.fused":"1"', inputs=[checkpoint])
    if model is not None:
        check_name(model)
    weights = read_weights(checkpoint, ema=ema)
    network = build(model, weights)
    fused = fuse(network)
    difference = relative_difference(network, fused)
    table = make_table("", "before", "after")
    table.add_row("parameters", *(f"{count_parameters(part):,}" for part in (network, fused)))
    table.add_row("BatchNorms", *(str(len(batchnorms(part))) for part in (network, fused)))
    table.add_row("largest relative difference", "", f"{difference:.1e}")
    screen = Screen()
    screen.print(table)
    problem = find_problem(fused, difference)
    if problem:
        Screen(stderr=True).print(f"recnext: error: {problem}: nothing written")
        return 1
    save(fused, path, epoch=weights.metadata.epoch if weights.metadata else None)
    screen.print(f"wrote {path}")
    return 0
