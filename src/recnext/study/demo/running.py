"""What the three demos do alike: they train in a folder of their own, and tell what they reached."""

import time
from pathlib import Path
from typing import Any, Optional

import numpy as np
from rich.console import Console
from torch import nn

from recnext.engine.job import Job
from recnext.engine.run import train
from recnext.engine.run_folder import RunFolder
from recnext.errors import RecNextError
from recnext.study.analysis.cost import count_parameters

Lines = list[tuple[str, str]]
"""What a demo reached, for people: a title and a text each."""


def clear(output: Path, source: Optional[str] = None) -> None:
    """Removes what would make an earlier demo a run to resume.

    Args:
        output: folder of the demo.
        source: what its config says it was trained on; by default the folder's data.

    Raises:
        RecNextError: there are other files or another run in the folder.
    """
    source, run = source or str(output / "data"), RunFolder(output)
    there = run.read_config().get("data")
    if there is None and output.is_dir() and any(output.iterdir()):
        raise RecNextError(f"{output} holds files of no demo, which might be replaced: give another --output")
    if there not in (source, None):
        raise RecNextError(f"{output} holds a run on {there}, which the demo would replace: give another --output")
    run.clear()


def train_demo(job: Job, settings: Any, *, data: Any, console: Console) -> str:
    """Trains, and says how long that took.

    Raises:
        KeyboardInterrupt: Ctrl-C while training.
    """
    console.rule("1  train", align="left")
    started = time.perf_counter()
    if train(job, settings, data=data, console=console).interrupted is not None:
        raise KeyboardInterrupt
    console.rule("2  evaluate, fold, predict", align="left")
    return f"{time.perf_counter() - started:.0f} s"


def parameter_line(model: nn.Module, folded: nn.Module) -> tuple[str, str]:
    """Parameters before and after folding."""
    return "parameters", f"{count_parameters(model):,} → {count_parameters(folded):,} folded"


def framed(pixels: Any, width: int) -> np.ndarray:
    """A picture (H, W, 3) in a white frame, in pixels."""
    return np.pad(np.asarray(pixels), ((width, width), (width, width), (0, 0)), constant_values=255)
