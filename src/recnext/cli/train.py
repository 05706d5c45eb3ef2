"""`recnext train`."""

from pathlib import Path
from typing import Any

from rich.console import Console

from recnext.training import TrainSettings, train_on_folders


def run(data: str, **settings: Any) -> int:
    """Trains or fine-tunes on folders of images, DATA/train/CLASS/* and DATA/val/CLASS/*.

    Leaves a run folder with best.safetensors, last.safetensors, metrics.jsonl, config.yaml and summary.json. Ctrl-C
    and SIGTERM save at the end of a step; --resume goes on exactly there. Also runs under torchrun.

    Args:
        data: folder that holds train and val.
    """
    chosen = TrainSettings(**settings)
    console = Console()
    result = train_on_folders(chosen, data=Path(data), console=console)
    if result.interrupted is not None:
        epoch, step = result.position
        console.print(
            f"stopped in epoch {epoch + 1} after step {step}, saved in {chosen.folder}: --resume goes on from there",
            highlight=False,
            soft_wrap=True,
        )
        return 128 + result.interrupted
    assert result.best is not None
    console.print(
        f"best top-1 {result.best['top1']:.2f} in epoch {result.best['epoch'] + 1}: "
        f"{chosen.folder / 'best.safetensors'}",
        highlight=False,
        soft_wrap=True,
    )
    return 0
