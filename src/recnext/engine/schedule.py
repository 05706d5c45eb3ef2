"""The learning rate as a function of the optimizer step alone, on timm's schedules.

Published recipe (paper, training on ImageNet; the rule is exact for every published log): cosine by epochs, stepped
with the number of the epoch that has just ended, so that epoch e runs with the value at max(e - 1, 0).
"""

from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch.optim import Optimizer

from recnext.errors import RecNextError

from .settings import LoopSettings


class LearningRate:
    """Sets the learning rate of every parameter group.

    Args:
        optimizer: its groups' learning rates are the peak.
        settings: of the run.
        steps_per_epoch: optimizer steps.
    """

    def __init__(self, optimizer: Optimizer, settings: LoopSettings, *, steps_per_epoch: int) -> None:
        self.by_epoch = settings.schedule == "epoch_cosine"
        self.steps_per_epoch = steps_per_epoch
        total = settings.total_steps(steps_per_epoch)
        unit = steps_per_epoch if self.by_epoch else 1
        warmup = settings.warmup(steps_per_epoch) / unit
        peak = max(group["lr"] for group in optimizer.param_groups)
        start = settings.warmup_lr if settings.warmup_ratio is None else settings.warmup_ratio * peak
        common = {"warmup_t": warmup, "warmup_lr_init": start, "t_in_epochs": self.by_epoch}
        length = total // unit
        self.timm: Scheduler
        if settings.schedule == "multistep":
            scale = 1 if settings.steps is not None else steps_per_epoch
            milestones = [milestone * scale + 1 for milestone in settings.milestones]  # timm is one early
            if milestones and milestones[-1] > length:
                raise RecNextError(
                    f"--milestones ends with {settings.milestones[-1]}, the run after {settings.length()}: "
                    "give milestones within the run"
                )
            self.timm = MultiStepLRScheduler(
                optimizer, milestones, decay_rate=settings.lr_decay, warmup_prefix=False, **common
            )
        elif settings.schedule == "poly":
            self.timm = PolyLRScheduler(optimizer, length, power=settings.poly_power, lr_min=settings.min_lr, **common)
        else:
            self.timm = CosineLRScheduler(optimizer, length, lr_min=settings.min_lr, **common)

    def set(self, step: int) -> None:
        """Sets what optimizer step number `step`, from 0, is to run with."""
        if self.by_epoch:
            self.timm.step(max(step // self.steps_per_epoch - 1, 0))
        else:
            self.timm.step_update(step)
