"""The training loop: steps, evaluation, saves and resuming, for any `Task`, on one process or many.

Nothing random carries over from step to step: each step's generators are seeded from (seed, rank, step) and the
data's from (seed, epoch, position). A run resumed from a save is therefore the run that was never stopped.

A run is a number of optimizer steps. It is cut into periods, each ended by evaluation and a save: the epochs of the
data, or `evaluate_every` steps.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NoReturn, Optional

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils.data import DataLoader

from recnext.data.images import UnreadableImageError
from recnext.data.sampling import seed_everything
from recnext.errors import RecNextError
from recnext.text import to_json

from .accelerator import autocast_dtype, broadcast_buffers, peak_memory, sync_batchnorm, unwrapped, wrapped
from .curves import draw_curves
from .failures import explained, refuse_broken_weights, stop_diverged
from .figures import can_draw
from .freezing import set_mode
from .job import EMA, Job
from .optimization import clip_gradients, make_optimizer
from .progress import RunProgress, Watch
from .result import PeriodSums, Step, TrainingResult
from .run_folder import UNREADABLE, Record, RunFolder
from .schedule import LearningRate
from .settings import LoopSettings
from .signals import StopRequest
from .state import collect, restore
from .task import BatchOrder, LoadedBatch, Task
from .tracking import start_tracking, track

_SECONDS_BETWEEN_CURVES = 10.0


class _Interrupted(Exception):
    """All processes agreed to stop; the state is saved."""


def fit(
    job: Job,
    task: Task,
    loaders: tuple[DataLoader[Any], DataLoader[Any]],
    settings: LoopSettings,
    run: RunFolder,
    accelerator: Accelerator,
    resume: bool,
    watch: Watch,
) -> TrainingResult:
    """Trains `task.model` and leaves everything in the run's folder.

    Args:
        job: has the metrics, and the head that may learn alone at first.
        task: model, loss, evaluation.
        loaders: of the training, whose `batch_sampler` is a `BatchOrder` and whose batches are `LoadedBatch`, and of
            the evaluation, handed to the task.
        settings: of the run, resolved.
        run: its folder, opened.
        accelerator: from `make_accelerator`.
        resume: go on from the run's state.
        watch: who looks on.

    Returns:
        The records; after SIGINT or SIGTERM `interrupted` is set and the state saved.

    Raises:
        RecNextError: the loss became NaN or infinite, the GPU has not memory enough, or too many images are
            unreadable; nothing is overwritten.
        OSError: a file could not be written; those of the save before are still there.
    """
    with explained(run, batch_size=settings.batch_size, accumulate=settings.accumulate):
        loop = _Loop(job, task, loaders, settings, run, accelerator, watch)
        start_tracking(accelerator, settings=settings.to_dict(), name=run.path.name)
        notes = loop.restore() if resume else ()
        progress = RunProgress(watch.console, total=loop.total, position=loop.done, metrics=job.metrics)
        with loop.stop, progress as loop.progress:
            for note in notes:
                loop.progress.note(note)
            result = loop.run_periods()
    if accelerator.log_with:
        accelerator.end_training()
    return result


class _Loop:
    progress: RunProgress

    def __init__(
        self,
        job: Job,
        task: Task,
        loaders: tuple[DataLoader[Any], DataLoader[Any]],
        settings: LoopSettings,
        run: RunFolder,
        accelerator: Accelerator,
        watch: Watch,
    ) -> None:
        self.task, self.settings, self.folder, self.accelerator, self.watch = task, settings, run, accelerator, watch
        self.head = job.head(task.model) if settings.freeze_epochs else None
        self.metrics, self.monitored = job.metrics, job.metrics[0]
        self.train_loader, self.val_loader = loaders
        self.batches: BatchOrder = self.train_loader.batch_sampler  # type: ignore[assignment]
        self.steps_per_epoch = len(self.batches) // settings.accumulate
        if self.steps_per_epoch == 0:
            raise RecNextError(
                f"--accumulate is {settings.accumulate}, an epoch has {len(self.batches)} batches of "
                f"{self.batches.batch_size}: expected no more than these"
            )
        self.total = settings.total_steps(self.steps_per_epoch)
        self.every = settings.evaluate_every or self.steps_per_epoch
        self.periods = math.ceil(self.total / self.every)
        self.global_batch = self.batches.batch_size * self.batches.world_size * settings.accumulate
        self.device = accelerator.device
        self.stop = StopRequest()
        self.period = self.step = 0
        self.sums = PeriodSums()
        self.records: list[Record] = []
        self.drawn = -math.inf

        self.layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        raw = task.model.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.raw: nn.Module = sync_batchnorm(raw, accelerator) if settings.sync_batchnorm else raw
        decay, warmup = settings.ema_decay, settings.ema_warmup
        self.ema = ModelEmaV3(self.raw, decay=decay, use_warmup=warmup) if settings.ema else None
        self.peak_lr = settings.peak_lr(self.global_batch)[0]
        optimizer = make_optimizer(self.raw, settings, lr=self.peak_lr)
        self.schedule = LearningRate(optimizer, settings, steps_per_epoch=self.steps_per_epoch)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.model: Optional[nn.Module] = None

    @property
    def done(self) -> int:
        """Optimizer steps done."""
        return min(self.period * self.every, self.total) + self.step

    @property
    def period_steps(self) -> int:
        return min(self.every, self.total - self.period * self.every)

    def where(self, *, step: bool = False) -> str:
        """The position in words; `step` tells the step within an epoch as well."""
        if self.settings.steps is not None:
            return f"step {self.done + step}/{self.total}"
        if step:
            return f"epoch {self.period + 1}, step {self.step + 1}"
        return f"epoch {min(self.period + 1, self.settings.epochs)}/{self.settings.epochs}"

    def run_periods(self) -> TrainingResult:
        started, interrupted = time.perf_counter(), False
        try:
            while self.period < self.periods:
                self.train_period()
                self.finish_period(self.evaluate())
        except _Interrupted:
            interrupted = True
        return TrainingResult(
            records=self.records,
            best=self.best("") if self.records else None,
            interrupted=self.stop.signal if interrupted else None,
            position=(self.period, self.step),
            where=self.where(),
            seconds=time.perf_counter() - started,
            folder=self.folder.path,
        )

    def train_period(self) -> None:
        self.set_mode()
        clock = time.perf_counter()
        while self.step < self.period_steps:
            for group in self.groups():
                loss, stop = self.train_step(group)
                now = time.perf_counter()
                self.sums.seconds, clock = self.sums.seconds + now - clock, now
                self.sums.trained += self.global_batch
                speed = self.sums.trained / self.sums.seconds
                step = Step(self.done, self.total, loss, self.lr, speed, self.where(), self.raw)
                self.progress.step(step)
                if stop:
                    self.save_and_leave()
                if self.settings.save_every and self.step % self.settings.save_every == 0:
                    self.save_state()
                self.watch.on_step(step)
                if self.step == self.period_steps:
                    break

    def set_mode(self) -> None:
        """Training mode, and the network wrapped for the parameters that learn now."""
        frozen = self.done // self.steps_per_epoch < self.settings.freeze_epochs
        if set_mode(self.raw, head=self.head, frozen=frozen) or self.model is None:
            self.model = wrapped(unwrapped(self.raw, self.accelerator), self.accelerator, self.settings)

    def groups(self) -> Iterator[list[LoadedBatch]]:
        """What is left of the data's epoch, as many batches at a time as a step takes."""
        epoch, step = divmod(self.done, self.steps_per_epoch)
        self.batches.set_position(epoch, step * self.settings.accumulate)
        group: list[LoadedBatch] = []
        for batch in self.train_loader:
            group.append(batch)
            if len(group) == self.settings.accumulate:
                yield group
                group = []

    def train_step(self, group: Sequence[LoadedBatch]) -> tuple[float, bool]:
        """One step of all processes; their mean loss, and whether one of them was asked to stop."""
        assert self.model is not None
        if not all(batch.names for batch in group):
            self.count_unreadable(group, sum(len(batch.unreadable) for batch in group))
            self.stop_unreadable("not one image of a batch can be read", self.sums.names)
        self.schedule.set(self.done)
        losses = []
        for index, batch in enumerate(group):
            seed_everything(self.settings.seed, self.accelerator.process_index, self.done, index)
            last = index + 1 == len(group)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.task.loss(self.model, batch, device=self.device)
                self.accelerator.backward(loss / len(group))
            losses.append(loss.detach().float())
        unreadable = sum(len(batch.unreadable) for batch in group)
        facts = torch.stack([torch.stack(losses).mean(), *losses[0].new_tensor([bool(self.stop), unreadable])])
        total, stop, unreadable = self.accelerator.reduce(facts, "sum").tolist()
        mean = total / self.accelerator.num_processes
        self.count_unreadable(group, int(unreadable))  # before the loss, which is NaN without any image
        if not math.isfinite(mean):
            stop_diverged(
                torch.stack(losses).tolist(),
                group,
                where=self.where(step=True),
                position=(self.period, self.step),
                lr=self.peak_lr,
                run=self.folder,
                accelerator=self.accelerator,
            )
        if self.settings.clip != "none":
            self.accelerator.unscale_gradients(self.optimizer)
            clip_gradients(self.raw.parameters(), self.settings)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.raw, step=self.done + 1 if self.settings.ema_warmup else None)
        self.sums.loss += mean
        self.step += 1
        return mean, stop > 0

    def count_unreadable(self, group: Sequence[LoadedBatch], count: int) -> None:
        for message in (message for batch in group for message in batch.unreadable):
            if message not in self.sums.names:
                self.sums.names.append(message)
                self.progress.note(f"{message}; another image takes its place")
        self.sums.unreadable += count
        limit = math.ceil(self.settings.max_unreadable * self.batches.length)
        if self.sums.unreadable > limit:
            self.stop_unreadable(
                f"{self.sums.unreadable} of {self.batches.length} training images are unreadable, more than "
                f"--max-unreadable {self.settings.max_unreadable:g} allows",
                self.sums.names,
            )

    def stop_unreadable(self, what: str, names: Sequence[str]) -> NoReturn:
        """Ends the session with one line; ``unreadable.json`` names all."""
        self.folder.write_text(UNREADABLE, to_json(names, indent=1) + "\n")
        raise UnreadableImageError(f"{what}: {'; '.join(names[:3])}")

    def evaluate(self) -> dict[str, float]:
        """Metrics over all processes, the averaged weights' with the prefix `EMA`."""
        self.progress.evaluating()
        self.check_weights()
        metrics: dict[str, float] = {}
        for prefix, model in self.evaluated():
            broadcast_buffers(model)
            unreadable: list[str] = []
            try:
                result = self.task.evaluate(
                    model.eval(),
                    self.val_loader,
                    device=self.device,
                    precision=autocast_dtype(self.accelerator),
                    should_stop=partial(bool, self.stop),
                )
            except UnreadableImageError as error:
                unreadable.append(str(error))
            if unreadable := gather_object(unreadable):
                self.save_state()  # once the image is mended, a resumed run has only this left to do
                self.stop_unreadable("the evaluation needs every image", unreadable)
            stop = torch.tensor([float(bool(self.stop))], device=self.device)
            if self.accelerator.reduce(stop, "sum").item() > 0:
                self.save_and_leave()
            metrics.update({prefix + name: value for name, value in result().items()})
        if math.isnan(metrics[self.monitored.key]):
            raise RecNextError(f"{self.monitored.title} cannot be measured: no label in the validation images counts")
        return metrics

    def evaluated(self) -> Iterator[tuple[str, nn.Module]]:
        yield "", self.raw
        if self.ema is not None:
            yield EMA, self.ema.module

    def finish_period(self, metrics: dict[str, float]) -> None:
        where, steps = self.where(), self.period_steps
        self.records.append(
            {
                "epoch": (self.done - 1) // self.steps_per_epoch,
                "step": self.done,
                "lr": self.lr,
                "train_loss": self.sums.loss / steps,
                **metrics,
                "unreadable": self.sums.unreadable,
                "images_per_second": self.sums.trained / max(self.sums.seconds, 1e-9),
                "seconds": self.sums.seconds,
                **peak_memory(self.device),
            }
        )
        record = self.records[-1]
        self.period, self.step, self.sums = self.period + 1, 0, PeriodSums()
        metadata = self.task.metadata(record["epoch"])
        for prefix, model in self.evaluated():
            suffix, weights = "_ema" if prefix else "", model.state_dict()
            if self.best(prefix) is record:
                self.folder.save_weights("best" + suffix, weights, metadata)
            self.folder.save_weights("last" + suffix, weights, metadata)
        self.folder.write_metrics(self.records)
        self.save_state(keep=True)
        track(self.accelerator, record)
        self.draw(last=self.period == self.periods)
        self.progress.period_done(where, record, best=self.best("") is record)
        self.watch.on_period(record)

    def best(self, prefix: str) -> Record:
        """The record of the best period, by the monitored metric."""
        return self.monitored.best(self.records, prefix=prefix)

    @property
    def lr(self) -> float:
        """The highest of the groups'."""
        return max(group["lr"] for group in self.optimizer.param_groups)

    def draw(self, *, last: bool) -> None:
        now = time.perf_counter()
        wanted = self.settings.curves and self.folder.writer and can_draw()
        if wanted and (last or now - self.drawn > _SECONDS_BETWEEN_CURVES):
            draw_curves(self.folder.path / "curves.png", self.records, metrics=self.metrics)
            self.drawn = now

    def save_and_leave(self) -> None:
        """All processes end for the signal that one of them had."""
        signal = torch.tensor([self.stop.signal or 0], device=self.device)
        self.stop.signal = int(self.accelerator.gather(signal).max())
        self.save_state()
        raise _Interrupted

    def check_weights(self) -> None:
        """Before anything is written or measured with them."""
        where = f"step {self.done}"
        refuse_broken_weights(self.raw, where=where, lr=self.peak_lr, run=self.folder, accelerator=self.accelerator)

    def save_state(self, *, keep: bool = False) -> None:
        self.check_weights()
        state = collect(
            self.raw,
            self.ema,
            self.optimizer,
            self.accelerator,
            epoch=self.period,
            step=self.step,
            sums=vars(self.sums),
            records=self.records,
        )
        self.folder.save_state(state, number=self.period if keep else None, keep=self.settings.keep)

    def restore(self) -> tuple[str, ...]:
        """Goes back to the saved state; what the user should know of it."""
        state, notes = self.folder.load_state()
        source = str(self.folder.path)
        position = restore(state, self.raw, self.ema, self.optimizer, self.accelerator, source=source)
        self.period, self.step, self.records = position.epoch, position.step, position.records
        self.sums = PeriodSums(**position.sums)
        return (*notes, f"resuming after step {self.done} of {self.total}")
