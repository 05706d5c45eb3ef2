"""Measuring latency and throughput of networks, turn by turn."""

import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from recnext.checkpoints import load
from recnext.deploy.optimize import Optimized, optimize
from recnext.deploy.optimize.steady import Steady
from recnext.deploy.optimize.trial import WARM, timed_turns, timing
from recnext.errors import RecNextError

from .peers import accuracy_of

SIZE = 224
"""Pixels a side of the images of a network that is only named."""

LOG = logging.getLogger("recnext")

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Budget:
    """How long to measure."""

    rounds: int = 30
    seconds: float = 2.0
    """Per network, for all rounds."""
    calls: int = 2
    largest_batch: int = 64
    """Where the sweep on a CPU ends."""


QUICK = Budget(rounds=7, seconds=0.5, calls=1, largest_batch=8)


@dataclass(frozen=True)
class Measurement:
    """One network in one backend and precision."""

    model: str
    backend: str
    precision: str
    size: int
    parameters: Optional[int]
    """None of an exported file."""
    latency_ms: float
    """Median at batch 1."""
    low_ms: float
    """First quartile."""
    high_ms: float
    """Third quartile."""
    rounds: int
    batch: Optional[int]
    """The batch of the largest throughput; None if it was not measured."""
    images_per_second: Optional[float]
    top1: Optional[float]
    """Published, in percent."""
    top1_size: Optional[int]
    """Image size of `top1`."""


@dataclass(frozen=True)
class Subject:
    """A network in a runnable form."""

    name: str
    parameters: Optional[int]
    run: Any
    """An Optimized, or an exported file: a batch in, with `backend` and `precision`."""
    size: int
    """Side of its images in pixels."""
    channels: int = 3
    """Of its images."""


def subjects(
    names: Sequence[str],
    *,
    backends: Sequence[str],
    precision: str,
    size: Optional[int],
    threads: Optional[int],
    device: torch.device,
    progress: Progress,
) -> list[Subject]:
    """Builds every network in every backend; a pair that cannot run is left out with one line.

    Args:
        names: of timm, weight files or run folders.
        backends: of `optimize`.
        precision: of `optimize`.
        size: side of the images in pixels; None for what weights were trained for, and 224 for names.
        threads: CPU threads; None for torch's.
        device: to run on.
        progress: told how far it is.

    Raises:
        RecNextError: an unknown network, or nothing runs.
    """
    for name in names:
        if not timm.is_model(name) and not Path(name).exists():
            raise RecNextError(f"there is no network {name!r} in timm or here; `recnext list` names ours")
    made: list[Subject] = []
    total = len(names) * len(backends)
    for index, name in enumerate(names):
        model = network(name, device)
        side = size or _trained_size(name, model)
        x = torch.randn(1, int(getattr(model, "in_chans", 3)), side, side, device=device)
        for offset, backend in enumerate(backends):
            progress(f"building {name} ({backend})", index * len(backends) + offset, total)
            try:
                run = optimize(model, x, backend=backend, precision=precision, threads=threads)
            except RecNextError as error:
                LOG.warning("%s in %s is left out: %s", name, backend, error)
                continue
            made.append(Subject(name, sum(p.numel() for p in model.parameters()), run, side, x.shape[1]))
    if not made:
        raise RecNextError(f"none of {', '.join(names)} runs in {', '.join(backends)}")
    progress("building", total, total)
    return made


def _trained_size(name: str, model: nn.Module) -> int:
    if not Path(name).exists():
        return SIZE
    _, height, width = resolve_model_data_config(model)["input_size"]
    if height != width:
        raise RecNextError(f"{name} was trained on {height}x{width}, the benchmark's images are square: give --size")
    return int(height)


def network(name: str, device: torch.device) -> nn.Module:
    """A network on a device: a file's, or one of timm with random weights and norms as after training."""
    if Path(name).exists():
        return load(checkpoint=name, device=device)
    torch.manual_seed(0)
    model = timm.create_model(name).eval().to(device)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None and module.running_mean is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return model


def measure_speeds(
    made: Sequence[Subject],
    *,
    device: torch.device,
    budget: Budget,
    throughput: bool,
    progress: Progress,
    steady: Optional[Steady] = None,
) -> list[Measurement]:
    """Latencies of all at batch 1, interleaved, then the throughput of each.

    With `steady`, latencies are taken while the machine is undisturbed.
    """
    functions = {
        str(index): finished(subject.run, torch.randn(1, subject.channels, subject.size, subject.size, device=device))
        for index, subject in enumerate(made)
    }
    times: dict[str, list[float]] = {key: [] for key in functions}
    seconds = budget.seconds * len(made)
    for turn in timed_turns(
        functions, times, rounds=budget.rounds, seconds=seconds, calls=budget.calls, steady=steady, warm=WARM
    ):
        progress("latency", turn + 1, budget.rounds)
    rows = []
    for index, subject in enumerate(made):
        latency, best = timing(times[str(index)]), None
        if throughput:
            progress(f"throughput of {subject.name} ({subject.run.backend})", index, len(made))
            best = best_batch(subject.run, size=subject.size, channels=subject.channels, device=device, budget=budget)
            if isinstance(subject.run, Optimized):
                subject.run.release()  # the maps of a batch of 64 are a gigabyte, of every network measured
        accuracy = accuracy_of(subject.name)
        rows.append(
            Measurement(
                model=subject.name,
                backend=subject.run.backend,
                precision=subject.run.precision,
                size=subject.size,
                parameters=subject.parameters,
                latency_ms=1e3 * latency.median,
                low_ms=1e3 * latency.low,
                high_ms=1e3 * latency.high,
                rounds=latency.rounds,
                batch=best[0] if best else None,
                images_per_second=best[1] if best else None,
                top1=accuracy.top1 if accuracy else None,
                top1_size=accuracy.size if accuracy else None,
            )
        )
    return rows


def finished(run: Callable[[Tensor], Any], x: Tensor) -> Callable[[], None]:
    """A call that returns when the device is done."""

    def call() -> None:
        run(x)
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)

    return call


def best_batch(
    run: Callable[[Tensor], Any], *, size: int, device: torch.device, budget: Budget, channels: int = 3
) -> tuple[int, float]:
    """The batch with most images per second, and how many.

    On a CPU batches double from 1 until two in a row give nothing more. On a GPU the largest batch that fits is
    found by bisection, and it and its halves are timed.
    """
    rate = partial(_rate, run, shape=(channels, size, size), device=device, budget=budget)
    if device.type == "cuda":
        largest = largest_batch(lambda batch: rate(batch) > 0)
        batches = [largest >> shift for shift in range(4) if largest >> shift]
        return max(((batch, rate(batch)) for batch in batches), key=lambda pair: pair[1])
    best = (1, 0.0)
    for batch in _doubling(budget.largest_batch):
        images = rate(batch)
        if images > best[1]:
            best = (batch, images)
        elif batch >= 4 * best[0]:
            break
    return best


def largest_batch(fits: Callable[[int], bool], limit: int = 4096) -> int:
    """The largest batch up to a limit for which `fits` does not run out of memory, by bisection to an eighth."""

    def tried(batch: int) -> bool:
        try:
            return fits(batch)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return False

    good = 1
    while good * 2 <= limit and tried(good * 2):
        good *= 2
    bad = min(2 * good, limit + 1)
    while bad - good > max(1, good // 8):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if tried(middle) else (good, middle)
    return good


def _doubling(limit: int) -> Iterator[int]:
    batch = 1
    while batch <= limit:
        yield batch
        batch *= 2


def _rate(
    run: Callable[[Tensor], Any], batch: int, *, shape: tuple[int, int, int], device: torch.device, budget: Budget
) -> float:
    x = torch.randn(batch, *shape, device=device)
    call = finished(run, x)
    times: list[float] = []
    for _ in timed_turns({"run": call}, {"run": times}, rounds=max(3, budget.rounds // 6), seconds=1.0, calls=1):
        pass
    return batch / statistics.median(times)
