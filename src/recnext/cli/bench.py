"""`recnext bench`: latency and throughput of networks, ours and others'."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Optional

import torch
from rich.table import Table
from rich.text import Text

from recnext.deploy.export.files import TimedFile, is_exported
from recnext.deploy.optimize import BACKENDS
from recnext.deploy.optimize.steady import Steady
from recnext.engine.devices import choose_device
from recnext.errors import RecNextError
from recnext.files import require_output, write_atomically
from recnext.precision import parse_precision
from recnext.screen import Screen, bold
from recnext.study.draw.speed import draw_pareto, draw_resolution
from recnext.study.speed.machine import describe_machine, one_line
from recnext.study.speed.peers import OURS, PEERS
from recnext.study.speed.protocol import QUICK, SIZE, Budget, Measurement, Subject, measure_speeds, subjects
from recnext.study.speed.resolution import ImageCost, costs
from recnext.text import to_cell

from .shared import SMALLEST_IMAGE, make_table, print_json, progress_bar, require_at_least, set_threads

_IMAGES = (128, 224, 384, 512, 768, 1024)


def run(
    models: list[str] = [],  # noqa: B006 (never changed)
    *,
    backend: str = "auto",
    precision: str = "auto",
    size: Optional[int] = None,
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
    overwrite: bool = False,
) -> int:
    """Measures latency at batch 1 and throughput at the best batch, all networks turn by turn (docs/benchmarking.md).

    Networks are fused and run in the form that recnext.optimize gives them; those only named have random weights.

    Args:
        models: timm names, run folders, weights, exported files; by default some of ours and peers of like accuracy.
        backend: auto, torch, compile, onnxruntime, openvino, or several with commas, to measure each.
        precision: fp32, bf16, fp16, or auto, which takes bf16 where the hardware has it and it is faster.
        size: side of the images in pixels; by default that of a run's training, 224 for names.
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
        overwrite: replace files that this command did not write.
    """
    budget, backends = _check(size, seconds, quick, backend)
    _check_files(output, plot, ImageCost if resolution else Measurement, overwrite)
    set_threads(threads)
    target = choose_device(device)
    machine = describe_machine(target, torch.get_num_threads())
    if resolution:
        rows: Any = _measure_images(target, quick)
    else:
        chosen = {"backends": backends, "precision": parse_precision(precision), "size": size, "threads": threads}
        rows, steady = _measure_networks(models, target, budget, quick, throughput, trust, **chosen)
        machine |= {"steadiness": steady.describe()} if steady else {}
    table = (_image_table if resolution else _network_table)(rows, one_line(machine))
    _write(rows, machine, table, json=json, output=output)
    if plot is not None:
        (draw_resolution if resolution else draw_pareto)(plot, rows, one_line(machine))
    return 0


def _check(size: Optional[int], seconds: Optional[float], quick: bool, backend: str) -> tuple[Budget, list[str]]:
    """The budget, and the backends by name."""
    require_at_least(SMALLEST_IMAGE, size=size)
    budget = QUICK if quick else Budget()
    if seconds is not None:
        if seconds <= 0:
            raise RecNextError(f"--seconds is {seconds}: expected more than 0")
        budget = Budget(10_000, seconds, budget.calls, budget.largest_batch)
    backends = [name.strip() for name in backend.split(",") if name.strip()]
    if not backends or any(name not in ("auto", *BACKENDS) for name in backends):
        raise RecNextError(f"--backend is {backend!r}: expected auto, {', '.join(BACKENDS)}, or several with commas")
    return budget, backends


def _check_files(output: Optional[Path], plot: Optional[Path], row: type, overwrite: bool) -> None:
    if output is not None:
        require_output(output, overwrite=overwrite, mark=",".join(field.name for field in fields(row)))
    if plot is not None:
        require_output(plot, overwrite=overwrite)
        if plot == output:
            raise RecNextError(f"--output and --plot are both {plot}: give each a file of its own")


def _measure_networks(
    models: Sequence[str],
    device: torch.device,
    budget: Budget,
    quick: bool,
    throughput: bool,
    trust: bool,
    **chosen: Any,
) -> tuple[list[Measurement], Optional[Steady]]:
    """The networks, the fastest first, and what watched the machine meanwhile."""
    files = [name for name in models if is_exported(name)]
    if files and device.type != "cpu":
        raise RecNextError(f"{files[0]} runs on the CPU here: add --device cpu")
    names = [name for name in models if name not in files] if models else [*OURS, *PEERS]
    side, threads = chosen["size"] or SIZE, chosen["threads"]
    made = [
        Subject(Path(name).name, None, TimedFile(Path(name), size=side, threads=threads, trust=trust), side)
        for name in files
    ]
    with progress_bar() as bar:
        task = bar.add_task("")

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        if names:
            made += subjects(names, device=device, progress=progress, **chosen)
        steady = Steady() if device.type == "cpu" and not quick else None
        rows = measure_speeds(
            made, device=device, budget=budget, throughput=throughput, progress=progress, steady=steady
        )
    return sorted(rows, key=lambda row: row.latency_ms), steady


def _measure_images(device: torch.device, quick: bool) -> list[ImageCost]:
    images = _IMAGES[:4] if quick else _IMAGES
    with progress_bar() as bar:
        found = bar.track(costs(images, device=device), total=len(images), description="image sizes")
        return [row for rows in found for row in rows]


def _write(rows: Sequence[Any], machine: dict[str, Any], table: Table, *, json: bool, output: Optional[Path]) -> None:
    if json:
        print_json({"machine": machine, "rows": [asdict(row) for row in rows]})
    else:
        Screen().print(table)
    if output is not None:
        writer = csv.DictWriter(content := io.StringIO(newline=""), [field.name for field in fields(rows[0])])
        writer.writeheader()
        writer.writerows({key: to_cell(value) for key, value in asdict(row).items()} for row in rows)
        write_atomically(output, content.getvalue().encode(errors="backslashreplace"))
        Screen(stderr=True).print(f"wrote {output}")


def _network_table(rows: Sequence[Measurement], caption: str) -> Table:
    """Networks, the fastest first; ± is half of what lies between the quartiles."""
    headings = ("network", "backend", "top-1\n%", "ms at\nbatch 1", "±", "images/s", "at\nbatch")
    table = make_table(*headings, text=2, title="Latency and throughput", caption=caption)
    for row in rows:
        note = f" @{row.top1_size}" if row.top1_size not in (None, row.size) else ""
        table.add_row(
            bold(row.model) if row.model.startswith("recnext") else row.model,
            f"{row.backend} {row.precision}",
            "" if row.top1 is None else f"{row.top1:.1f}{note}",
            f"{row.latency_ms:.2f}",
            Text(f"{(row.high_ms - row.low_ms) / 2 / row.latency_ms:.0%}", "dim"),
            "" if row.images_per_second is None else f"{row.images_per_second:.0f}",
            "" if row.batch is None else str(row.batch),
        )
    return table


def _image_table(rows: Sequence[ImageCost], caption: str) -> Table:
    """Nanoseconds per pixel of the map, a column an image size, and the memory of the largest measured."""
    images = sorted({row.image for row in rows})
    title = "ns per pixel of the map (48 channels, 1/4 of the image)"
    table = make_table("mixer", *map(str, images), "bytes\nper pixel", title=title, caption=caption)
    for name in dict.fromkeys(row.mixer for row in rows):
        cells = {row.image: row for row in rows if row.mixer == name}
        times = (f"{cells[image].nanoseconds_per_pixel:.0f}" if image in cells else "-" for image in images)
        table.add_row(name, *times, f"{cells[max(cells)].bytes_per_pixel:.0f}")
    return table
