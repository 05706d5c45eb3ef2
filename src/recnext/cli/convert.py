"""`recnext convert`: any checkpoint to safetensors."""

from typing import Optional

from rich.console import Console

from recnext.checkpoints import convert
from recnext.nn.fusion import batchnorms
from recnext.study.analysis.cost import count_parameters


def run(checkpoint: str, output: str, *, model: Optional[str] = None, ema: bool = False, fused: bool = False) -> int:
    """Turns any checkpoint into one safetensors file that needs no further arguments.

    Args:
        checkpoint: safetensors, .pth, fused TorchScript .pt, run folder or hub id; nothing in it is run.
        output: the .safetensors file to write.
        model: name of the network, where the checkpoint does not tell it.
        ema: take the moving average of the weights.
        fused: fold every BatchNorm.
    """
    network = convert(checkpoint, output, name=model, ema=ema, fused=True if fused else None)
    config = network.pretrained_cfg
    Console().print(
        f"wrote {output}: {config['architecture']}, {network.num_classes} classes, "  # type: ignore[index]
        f"{count_parameters(network):,} parameters, {'unfused' if batchnorms(network) else 'fused'}",
        highlight=False,
        soft_wrap=True,
    )
    return 0
