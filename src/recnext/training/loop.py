"""The training loop: steps, evaluation, saves and resuming, for any `Task`, on one process or many.

Nothing random carries over from step to step: each step's generators are seeded from (seed, rank, epoch, step) and
the data's from (seed, epoch, position). A run resumed from a save is therefore the run that was never stopped.
"""

import errno
import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Optional

import torch
from accelerate import Accelerator
from rich.console import Console
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader

from recnext.data import Batch
from recnext.data.images import UnreadableImageError
from recnext.data.sampling import TrainBatches, seed_everything
from recnext.errors import RecNextError
from recnext.evaluation.plots import can_draw

from .engine import autocast_dtype, broadcast_buffers
from .optimization import make_optimizer
from .plots import draw_curves
from .progress import RunProgress
from .result import EpochSums, TrainingResult
from .run_folder import Record, RunFolder
from .settings import TrainSettings
from .signals import StopRequest
from .task import Task

_SECONDS_BETWEEN_CURVES = 10.0


class _Interrupted(Exception):
    """All processes agreed to stop; the state is saved."""


def fit(
    task: Task,
    *,
    train_loader: DataLoader[Batch],
    val_loader: DataLoader[Batch],
    settings: TrainSettings,
    run: RunFolder,
    accelerator: Accelerator,
    resume: bool = False,
    console: Optional[Console] = None,
) -> TrainingResult:
    """Trains `task.model` and leaves everything in the run's folder.

    Args:
        task: model, loss, evaluation.
        train_loader: over `TrainBatches`.
        val_loader: over `EvaluationBatches`.
        settings: of the run, resolved.
        run: its folder, opened.
        accelerator: from `make_accelerator`.
        resume: go on from the run's state.
        console: for the progress; None is silent.

    Returns:
        The records; after SIGINT or SIGTERM `interrupted` is set and the state saved.

    Raises:
        RecNextError: the loss became NaN or infinite, or too many images are unreadable; nothing is overwritten.
        OSError: a file could not be written; the files of the save before are whole.
    """
    loop = _Loop(task, train_loader, val_loader, settings, run, accelerator)
    if resume:
        loop.restore()
    try:
        with (
            loop.stop,
            RunProgress(
                console, epochs=settings.epochs, steps=loop.steps, position=loop.epoch * loop.steps + loop.step
            ) as loop.progress,
        ):
            return loop.run_epochs()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            text = "no space left on the disk; the save before is whole: free some and go on with --resume"
            raise OSError(error.errno, text, error.filename) from error
        raise


class _Loop:
    progress: RunProgress

    def __init__(
        self,
        task: Task,
        train_loader: DataLoader[Batch],
        val_loader: DataLoader[Batch],
        settings: TrainSettings,
        run: RunFolder,
        accelerator: Accelerator,
    ) -> None:
        self.task, self.settings, self.folder, self.accelerator = task, settings, run, accelerator
        self.train_loader, self.val_loader = train_loader, val_loader
        assert isinstance(train_loader.batch_sampler, TrainBatches)
        self.batches: TrainBatches = train_loader.batch_sampler
        self.steps = len(self.batches)
        self.global_batch = self.batches.batch_size * self.batches.world_size
        self.device = accelerator.device
        self.stop = StopRequest()
        self.epoch = self.step = 0
        self.sums = EpochSums()
        self.records: list[Record] = []
        self.drawn = -math.inf

        self.raw = task.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = ModelEmaV3(self.raw, decay=settings.ema_decay, use_warmup=True) if settings.ema else None
        optimizer, self.scheduler = make_optimizer(self.raw, settings, global_batch=self.global_batch, steps=self.steps)
        self.model, self.optimizer = accelerator.prepare(self.raw, optimizer)

    def run_epochs(self) -> TrainingResult:
        started, interrupted = time.perf_counter(), False
        try:
            while self.epoch < self.settings.epochs:
                self.train_epoch()
                self.finish_epoch(self.evaluate())
        except _Interrupted:
            interrupted = True
        return TrainingResult(
            records=self.records,
            best=self.best("") if self.records else None,
            interrupted=(self.stop.signal or 0) if interrupted else None,
            position=(self.epoch, self.step),
            seconds=time.perf_counter() - started,
        )

    def train_epoch(self) -> None:
        self.model.train()
        self.batches.set_position(self.epoch, self.step)
        clock = time.perf_counter()
        for batch in self.train_loader if self.step < self.steps else ():
            loss, stop = self.train_step(batch)
            now = time.perf_counter()
            self.sums.seconds, clock = self.sums.seconds + now - clock, now
            self.sums.trained += self.global_batch
            self.progress.step(
                self.epoch, loss=loss, lr=self.lr, images_per_second=self.sums.trained / self.sums.seconds
            )
            if stop:
                self.save_and_leave()
            if self.settings.save_every and self.step % self.settings.save_every == 0:
                self.save_state()

    def train_step(self, batch: Batch) -> tuple[float, bool]:
        """One step of all processes; their mean loss, and whether one of them was asked to stop."""
        done = self.epoch * self.steps + self.step
        self.scheduler.step_update(done)
        seed_everything(self.settings.seed, self.accelerator.process_index, self.epoch, self.step)
        loss = self.task.loss(self.model, batch, device=self.device)
        facts = torch.stack([loss.detach().float(), *loss.new_tensor([bool(self.stop), len(batch.unreadable)]).float()])
        total, stop, unreadable = self.accelerator.reduce(facts, "sum").tolist()
        mean = total / self.accelerator.num_processes
        if not math.isfinite(mean):
            raise RecNextError(
                f"the loss is {mean} in epoch {self.epoch + 1}, step {self.step + 1}: stopped before that step, "
                f"{self.folder.path} keeps the last good state; a lower --lr (peak now "
                f"{self.settings.peak_lr(self.global_batch)[0]:g}) or --precision no may help"
            )
        self.count_unreadable(batch, int(unreadable))
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.raw, step=done + 1)
        self.sums.loss += mean
        self.step += 1
        return mean, stop > 0

    def count_unreadable(self, batch: Batch, count: int) -> None:
        for message in batch.unreadable:
            if message not in self.sums.names:
                self.sums.names.append(message)
                self.progress.note(f"{message}; another image takes its place")
        self.sums.unreadable += count
        limit = math.ceil(self.settings.max_unreadable * self.batches.length)
        if self.sums.unreadable > limit:
            raise RecNextError(
                f"{self.sums.unreadable} of {self.batches.length} training images are unreadable, more than "
                f"--max-unreadable {self.settings.max_unreadable:g} allows: {'; '.join(self.sums.names[:3])}"
            )

    def evaluate(self) -> dict[str, float]:
        """Metrics over all processes, the averaged weights' with the prefix ``ema_``."""
        self.progress.evaluating()
        broadcast_buffers(self.raw)
        metrics: dict[str, float] = {}
        for prefix, model in self.evaluated():
            try:
                result = self.task.evaluate(
                    model.eval(),
                    self.val_loader,
                    device=self.device,
                    precision=autocast_dtype(self.accelerator),
                    should_stop=partial(bool, self.stop),
                )
            except UnreadableImageError:
                self.save_state()  # once the image is mended, a resumed run has only this left to do
                raise
            stop = torch.tensor([float(bool(self.stop))], device=self.device)
            if self.accelerator.reduce(stop, "sum").item() > 0:
                self.save_and_leave()
            metrics.update({prefix + name: value for name, value in result().items()})
        return metrics

    def evaluated(self) -> Iterator[tuple[str, torch.nn.Module]]:
        yield "", self.raw
        if self.ema is not None:
            yield "ema_", self.ema.module

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        self.records.append(
            {
                "epoch": self.epoch,
                "step": (self.epoch + 1) * self.steps,
                "lr": self.lr,
                "train_loss": self.sums.loss / self.steps,
                **metrics,
                "unreadable": self.sums.unreadable,
                "images_per_second": self.sums.trained / max(self.sums.seconds, 1e-9),
                "seconds": self.sums.seconds,
            }
        )
        self.epoch, self.step, self.sums = self.epoch + 1, 0, EpochSums()
        metadata = self.task.metadata(self.epoch - 1)
        for prefix, model in self.evaluated():
            suffix = "_ema" if prefix else ""
            if self.best(prefix) is self.records[-1]:
                self.folder.save_weights("best" + suffix, model, metadata)
            self.folder.save_weights("last" + suffix, model, metadata)
        self.folder.write_metrics(self.records)
        self.save_state()
        self.draw(last=self.epoch == self.settings.epochs)
        self.progress.epoch_done(self.records[-1], best=self.best("") is self.records[-1])

    def best(self, prefix: str) -> Record:
        """The record of the epoch, the earliest of equals, with the highest monitored metric."""
        return max(self.records, key=lambda record: record[prefix + self.task.monitor])

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def draw(self, *, last: bool) -> None:
        now = time.perf_counter()
        if self.folder.writer and can_draw() and (last or now - self.drawn > _SECONDS_BETWEEN_CURVES):
            draw_curves(self.folder.path / "curves.png", self.records)
            self.drawn = now

    def save_and_leave(self) -> None:
        self.save_state()
        raise _Interrupted

    def save_state(self) -> None:
        scaler = self.accelerator.scaler
        self.folder.save_state(
            {
                "epoch": self.epoch,
                "step": self.step,
                "processes": self.accelerator.num_processes,
                "sums": vars(self.sums),
                "records": self.records,
                "model": self.raw.state_dict(),
                "ema": None if self.ema is None else self.ema.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
            }
        )

    def restore(self) -> None:
        state: dict[str, Any] = self.folder.load_state()
        if state["processes"] != self.accelerator.num_processes:
            raise RecNextError(
                f"{self.folder.path} was trained by {state['processes']} processes, here are "
                f"{self.accelerator.num_processes}: resume with as many, the batch depends on it"
            )
        self.raw.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.records = state["epoch"], state["step"], state["records"]
        self.sums = EpochSums(**state["sums"])
