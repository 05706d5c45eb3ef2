"""Optimizer and schedule from the settings, both timm's."""

from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from .settings import TrainSettings

_WARMUP_LR = 1e-6


def make_optimizer(
    model: nn.Module, settings: TrainSettings, *, global_batch: int, steps: int
) -> tuple[Optimizer, Scheduler]:
    """AdamW without decay on biases and 1-D parameters, and a cosine with linear warm-up, stepped by update.

    Args:
        model: on its device.
        settings: of the run.
        global_batch: images a step over all processes.
        steps: in an epoch.
    """
    optimizer = create_optimizer_v2(
        model, opt="adamw", lr=settings.peak_lr(global_batch)[0], weight_decay=settings.weight_decay
    )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=settings.epochs,
        warmup_epochs=settings.warmup,  # type: ignore[arg-type]
        warmup_lr=_WARMUP_LR,
        min_lr=settings.min_lr,
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    return optimizer, scheduler
