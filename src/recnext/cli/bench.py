"""`recnext bench`: latency and throughput of networks, ours and others'."""

import csv
import json as jsonlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Optional

import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from recnext.deploy.export.files import TimedFile, is_exported
from recnext.deploy.optimize import BACKENDS
from recnext.deploy.optimize.steady import Steady
from recnext.engine.devices import choose_device
from recnext.errors import RecNextError
from recnext.precision import parse_precision
from recnext.study.speed.machine import describe, one_line
from recnext.study.speed.peers import OURS, PEERS
from recnext.study.speed.protocol import QUICK, Budget, Measurement, Subject, measure, subjects
from recnext.study.speed.resolution import Cost, costs

from .bench_plots import draw_pareto, draw_resolution

_IMAGES = (128, 224, 384, 512, 768, 1024)


def run(
    models: list[str] = [],  # noqa: B006 (never changed)
    *,
    backend: str = "auto",
    precision: str = "auto",
    size: int = 224,
    threads: Optional[int] = None,
    device: str = "auto",
    throughput: bool = True,
    resolution: bool = False,
    quick: bool = False,
    seconds: Optional[float] = None,
    json: bool = False,
    output: Optional[Path] = None,
    plot: Optional[Path] = None,
    trust: bool = False,
) -> int:
    """Measures latency at batch 1 and throughput at the best batch, all networks turn by turn.

    Networks have random weights, are fused (timm's are reparameterised) and run in the form that
    recnext.optimize gives them. docs/benchmarking.md holds the protocol.

    Args:
        models: timm names and exported files (.onnx, .xml, .pte, .tflite, .pt2); by default some of ours beside peers
            of matched accuracy. Files run as they are, whatever --backend and --precision say.
        backend: auto, torch, compile, onnxruntime, openvino, or several with commas, to measure each.
        precision: fp32, bf16, fp16, or auto, which takes bf16 where the hardware has it and it is faster.
        size: side of the images in pixels.
        threads: CPU threads; by default torch's.
        device: auto, cpu, cuda or cuda:N.
        throughput: look for the best batch too.
        resolution: measure how token mixers grow with the image, 128 to 1024 pixels, instead of networks.
        quick: a rough answer: fewer turns, smaller batches.
        seconds: time for the latency turns of each network.
        json: print JSON instead of a table.
        output: CSV file to write.
        plot: PNG to draw: published accuracy against measured latency, or cost against the image.
        trust: open .pt2 files, which can run any program on this machine.
    """
    if size < 32:
        raise RecNextError(f"--size is {size}: expected at least 32 pixels")
    if seconds is not None and seconds <= 0:
        raise RecNextError(f"--seconds is {seconds}: expected more than 0")
    for path in (output, plot):
        if path is not None and not path.parent.is_dir():
            raise RecNextError(f"cannot write {path}: there is no folder {path.parent}")
    precision = parse_precision(precision)
    target = choose_device(device)
    if threads is not None:
        if threads < 1:
            raise RecNextError(f"--threads is {threads}: expected 1 or more")
        torch.set_num_threads(threads)
    machine = describe(target, torch.get_num_threads())
    budget = QUICK if quick else Budget()
    if seconds is not None:
        budget = Budget(10_000, seconds, budget.calls, budget.largest_batch)
    if resolution:
        return _resolution(target, quick, machine, json=json, output=output, plot=plot)

    backends = [name.strip() for name in backend.split(",") if name.strip()]
    if not backends or any(name not in ("auto", *BACKENDS) for name in backends):
        raise RecNextError(f"--backend is {backend!r}: expected auto, {', '.join(BACKENDS)}, or several with commas")
    files = [name for name in models if is_exported(name)]
    if files and target.type != "cpu":
        raise RecNextError(f"{files[0]} runs on the CPU here: add --device cpu")
    names = [name for name in models if name not in files] if models else [*OURS, *PEERS]
    made = [
        Subject(Path(name).name, None, TimedFile(Path(name), size=size, threads=threads, trust=trust)) for name in files
    ]
    with _progress(json) as bar:
        task = bar.add_task("")

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        if names:
            made += subjects(
                names,
                backends=backends,
                precision=precision,
                size=size,
                threads=threads,
                device=target,
                progress=progress,
            )
        steady = Steady() if target.type == "cpu" and not quick else None
        rows = measure(
            made, size=size, device=target, budget=budget, throughput=throughput, progress=progress, steady=steady
        )
    if steady is not None:
        machine["steadiness"] = steady.describe()
    rows.sort(key=lambda row: row.latency_ms)
    _write(rows, machine, json=json, output=output, table=table(rows, one_line(machine)))
    if plot is not None:
        draw_pareto(plot, rows, one_line(machine))
    return 0


def _resolution(
    device: torch.device,
    quick: bool,
    machine: dict[str, object],
    *,
    json: bool,
    output: Optional[Path],
    plot: Optional[Path],
) -> int:
    images = _IMAGES[:4] if quick else _IMAGES
    rows: list[Cost] = []
    with _progress(json) as bar:
        for found in bar.track(costs(images, device=device), total=len(images), description="image sizes"):
            rows += found
    _write(rows, machine, json=json, output=output, table=resolution_table(rows, one_line(machine)))
    if plot is not None:
        draw_resolution(plot, rows, one_line(machine))
    return 0


def _progress(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=quiet,
    )


def _write(
    rows: Sequence[Measurement] | Sequence[Cost],
    machine: dict[str, object],
    *,
    json: bool,
    output: Optional[Path],
    table: Table,
) -> None:
    if json:
        print(jsonlib.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        Console().print(table)
    if output is not None:
        with output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(rows[0])])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
        print(f"wrote {output}", file=sys.stderr)


def table(rows: Sequence[Measurement], caption: str) -> Table:
    """Networks, the fastest first; ± is half of what lies between the quartiles."""
    drawn = Table(
        title="Latency and throughput", caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    drawn.add_column("network", no_wrap=True)
    drawn.add_column("top-1\n%", justify="right")
    drawn.add_column("backend", no_wrap=True)
    drawn.add_column("ms at\nbatch 1", justify="right")
    drawn.add_column("±", justify="right", style="dim")
    drawn.add_column("images/s", justify="right")
    drawn.add_column("at\nbatch", justify="right", style="dim")
    for row in rows:
        note = f" @{row.top1_size}" if row.top1_size not in (None, row.size) else ""
        drawn.add_row(
            f"[bold]{row.model}[/]" if row.model.startswith("recnext") else row.model,
            "" if row.top1 is None else f"{row.top1:.1f}{note}",
            f"{row.backend} {row.precision}",
            f"{row.latency_ms:.2f}",
            f"{(row.high_ms - row.low_ms) / 2 / row.latency_ms:.0%}",
            "" if row.images_per_second is None else f"{row.images_per_second:.0f}",
            "" if row.batch is None else str(row.batch),
        )
    return drawn


def resolution_table(rows: Sequence[Cost], caption: str) -> Table:
    """Nanoseconds per pixel of the map, a column an image size, and the memory of the largest measured."""
    images = sorted({row.image for row in rows})
    drawn = Table(
        title="ns per pixel of the map (48 channels, 1/4 of the image)",
        caption=caption,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    drawn.add_column("mixer", no_wrap=True)
    for image in images:
        drawn.add_column(f"{image}", justify="right")
    drawn.add_column("bytes\nper pixel", justify="right", style="dim")
    for name in dict.fromkeys(row.mixer for row in rows):
        cells = {row.image: row for row in rows if row.mixer == name}
        drawn.add_row(
            name,
            *(f"{cells[image].nanoseconds_per_pixel:.0f}" if image in cells else "-" for image in images),
            f"{cells[max(cells)].bytes_per_pixel:.0f}",
        )
    return drawn
