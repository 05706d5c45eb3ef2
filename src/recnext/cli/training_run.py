"""What every command that trains does around the training."""

from collections.abc import Collection
from typing import Any

from accelerate import PartialState

from recnext.engine.failures import DivergedError
from recnext.engine.job import EMA, Job
from recnext.engine.run import train
from recnext.engine.settings import LoopSettings
from recnext.screen import Screen


def run_training(job: Job, settings: LoopSettings, *, given: Collection[str], data: Any) -> int:
    """Trains, and says how it ended.

    Args:
        job: what is trained.
        settings: of the run.
        given: names of the settings that the command line or its recipe gives.
        data: to train on.

    Returns:
        The exit status: 128 and the signal's number for a stopped run.
    """
    console = Screen()
    try:
        result = train(job, settings, data=data, given=set(given), console=console)
    except DivergedError:
        if PartialState().is_main_process:
            raise
        return 2  # one line says it for all
    console.quiet = not PartialState().is_main_process
    if result.interrupted is not None:
        text = f"stopped in {result.where} after step {result.position[1]}, saved in {result.folder}"
        console.print(f"{text}: --resume goes on from there")
        return 128 + result.interrupted
    metric = job.metrics[0]
    for prefix, name in (("", "best"), (EMA, "best_ema")):
        if prefix + metric.key in result.records[0]:
            best = metric.best(result.records, prefix=prefix)
            text = f"best {'averaged ' if prefix else ''}{metric.title} {best[prefix + metric.key]:.2f}"
            console.print(f"{text} in epoch {best['epoch'] + 1}: {result.folder / name}.safetensors")
    return 0
