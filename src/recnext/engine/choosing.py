"""What a new run chooses where nothing was asked for: its network, and a batch that suits few images."""

from collections.abc import Collection
from dataclasses import replace
from typing import Optional

from accelerate import Accelerator

from recnext.checkpoints.loading import network_of
from recnext.checkpoints.reading import read_weights

from .run_folder import RunFolder
from .settings import LoopSettings, NetworkRunSettings

_STEPS = 10  # of an epoch at least, where the images allow it
_SMALLEST = 8  # BatchNorm's statistics of fewer images are poor
_FEW = 300  # steps of a run


def take_network(settings: LoopSettings, *, given: Optional[Collection[str]]) -> LoopSettings:
    """Settings with the network that the checkpoint names, where none was asked for.

    Args:
        settings: of the run.
        given: names of the settings that were asked for; by default those that differ from their defaults.

    Raises:
        RecNextError: the checkpoint cannot be read.
    """
    if not isinstance(settings, NetworkRunSettings) or settings.checkpoint is None or _asked(settings, "model", given):
        return settings
    if settings.resume and settings.output and RunFolder(settings.folder).has_state():
        return settings  # the run knows its network, and the checkpoint may be gone
    name = network_of(read_weights(settings.checkpoint))
    return settings if name is None else replace(settings, model=name)


def fit_batch(
    settings: LoopSettings, *, images: int, accelerator: Accelerator, given: Optional[Collection[str]]
) -> tuple[LoopSettings, str]:
    """Settings with a batch small enough for some steps an epoch, where none was asked for.

    Args:
        settings: of a new run.
        images: to train on.
        accelerator: knows how many processes share them.
        given: names of the settings that were asked for; by default those that differ from their defaults.

    Returns:
        The settings, and a line that says what was changed.
    """
    size = settings.batch_size
    share = images // (accelerator.num_processes * settings.accumulate)  # of an epoch, for each batch of a step
    if _asked(settings, "batch_size", given) or settings.steps is not None or share >= _STEPS * size:
        return settings, ""
    chosen = max(1 << (max(share // _STEPS, 1).bit_length() - 1), min(_SMALLEST, size))
    if chosen >= size:
        return settings, ""
    return replace(settings, batch_size=chosen), (
        f"batch size {chosen} instead of {size}, as there are {images} images: --batch-size sets another"
    )


def warn_of_few(steps: int) -> str:
    """A line about a run of few optimizer steps; empty for others."""
    return f"only {steps} optimizer steps in this run: raise --epochs to train longer" if steps < _FEW else ""


def _asked(settings: LoopSettings, name: str, given: Optional[Collection[str]]) -> bool:
    return getattr(settings, name) != getattr(type(settings)(), name) if given is None else name in given
