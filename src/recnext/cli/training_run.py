"""What every command that trains does around the training."""

from collections.abc import Callable, Collection
from typing import Any

from accelerate import PartialState

from recnext.engine.failures import DivergedError
from recnext.engine.result import TrainingResult
from recnext.engine.settings import LoopSettings
from recnext.screen import Screen


def run_training(
    train: Callable[..., TrainingResult],
    settings: LoopSettings,
    *,
    given: Collection[str],
    data: Any,
    metric: str,
    name: str,
) -> int:
    """Trains, and says how it ended.

    Args:
        train: takes the settings, and `data`, `given` and `console` by name.
        settings: of the run.
        given: names of the settings that the command line or its recipe gives.
        data: to train on.
        metric: key of the best record's measure.
        name: that measure for people.

    Returns:
        The exit status: 128 and the signal's number for a stopped run.
    """
    console = Screen()
    try:
        result = train(settings, data=data, given=set(given), console=console)
    except DivergedError:
        if PartialState().is_main_process:
            raise
        return 2  # one line says it for all
    console.quiet = not PartialState().is_main_process
    if result.interrupted is not None:
        text = f"stopped in {result.where} after step {result.position[1]}, saved in {settings.folder}"
        console.print(f"{text}: --resume goes on from there")
        return 128 + result.interrupted
    assert result.best is not None
    best = f"best {name} {result.best[metric]:.2f} in epoch {result.best['epoch'] + 1}"
    console.print(f"{best}: {settings.folder / 'best.safetensors'}")
    return 0
