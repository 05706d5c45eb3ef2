"""`recnext convert`: any checkpoint to safetensors."""

from typing import Optional

from recnext.checkpoints import convert
from recnext.checkpoints.saving import checked_output
from recnext.files import require_output
from recnext.nn.fusion import batchnorms
from recnext.screen import Screen
from recnext.study.analysis.cost import count_parameters


def run(
    checkpoint: str,
    output: str,
    *,
    model: Optional[str] = None,
    ema: bool = False,
    fused: bool = False,
    overwrite: bool = False,
) -> int:
    """Turns any checkpoint into one safetensors file that needs no further arguments.

    Args:
        checkpoint: safetensors, .pth, fused TorchScript .pt, run folder or hub id; nothing in it is run.
        output: the .safetensors file to write.
        model: name of the network, where the checkpoint does not name it.
        ema: take the moving average of the weights.
        fused: fold every BatchNorm.
        overwrite: replace files that this command did not write.
    """
    require_output(checked_output(output), overwrite=overwrite, mark=None, inputs=[checkpoint])
    network = convert(checkpoint, output, name=model, ema=ema, fused=True if fused else None)
    config = network.pretrained_cfg
    Screen().print(
        f"wrote {output}: {config['architecture']}, {network.num_classes} classes, "  # type: ignore[index]
        f"{count_parameters(network):,} parameters, {'unfused' if batchnorms(network) else 'fused'}"
    )
    return 0
