"""What `recnext embed` and `recnext predict --output FILE.parquet` share: a table made by any number of processes."""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from timm.data import resolve_model_data_config
from torch import nn

from recnext.checkpoints.sources import find_file
from recnext.deploy.optimize import forward_for
from recnext.engine.processes import Processes, joined
from recnext.precision import parse_precision
from recnext.tasks.classification.chunks import open_chunks
from recnext.tasks.classification.embedding import ROWS, Columns, write_table
from recnext.tasks.classification.parts import Parts

_REPORTED = 20  # unreadable images named at the end


def weight_facts(name: Optional[str], *, checkpoint: Optional[str], ema: bool) -> dict[str, Any]:
    """What tells one network's weights from another's: their name, and of a checkpoint the content.

    Args:
        name: of a network with published weights.
        checkpoint: as of `recnext.load`.
        ema: whether its moving average is taken.

    Raises:
        RecNextError: there is no such checkpoint.
    """
    if checkpoint is None:
        return {"weights": name, "ema": ema}
    digest = hashlib.blake2b(digest_size=16)
    with find_file(checkpoint, ema=ema).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"weights": checkpoint, "ema": ema, "contents of the weights": digest.hexdigest()}


def make_table(
    images: Sequence[str],
    output: Path,
    *,
    load_network: Callable[[torch.device], nn.Module],
    columns: Callable[[nn.Module], Columns],
    facts: Mapping[str, Any],
    image_size: Optional[tuple[int, int]],
    batch_size: int,
    workers: int,
    device: str,
    backend: str = "torch",
    precision: str = "auto",
    overwrite: bool = False,
) -> int:
    """Writes the table, or goes on with it; the exit status is 1 when images could not be read.

    Args:
        images: files, folders and patterns, or tar shards.
        output: ends in ``.parquet``.
        load_network: called with the device of this process.
        columns: what to keep of the network's output.
        facts: of the run, which a run that goes on must have in common.
        image_size: height and width in pixels; None for the network's.
        batch_size: images at once.
        workers: threads that decode.
        device: as of `joined`.
        backend: as of `forward_for`.
        precision: as of `forward_for`.
        overwrite: replace another table.
    """
    parts = Parts(output, overwrite=overwrite)
    source = open_chunks(images)
    with joined(device) as processes:
        network = load_network(processes.device)
        kept = columns(network)
        if processes.first and parts.open({**facts, **source.facts(), "rows": ROWS}):
            print(f"recnext: going on with {parts.folder}: {parts.rows()} images are done", file=sys.stderr)
        processes.wait()
        forward: Any = network
        if backend != "torch" or parse_precision(precision) not in ("auto", "fp32"):
            channels, *sides = resolve_model_data_config(network)["input_size"]
            size = image_size or tuple(sides)
            example = torch.randn(
                batch_size, int(getattr(network, "in_chans", channels)), *size, device=processes.device
            )
            forward = forward_for(network, example, backend=backend, precision=precision)
        unreadable = _run(network, source, parts, kept, processes, forward, image_size, batch_size, workers)
        processes.wait()
        rows = parts.join() if processes.first else 0
    _report(unreadable)
    if processes.first:
        print(f"recnext: {rows} rows in {output}", file=sys.stderr)
    return int(bool(unreadable))


def _run(
    network: nn.Module,
    source: Any,
    parts: Parts,
    columns: Columns,
    processes: Processes,
    forward: Any,
    image_size: Optional[tuple[int, int]],
    batch_size: int,
    workers: int,
) -> list[str]:
    with Progress(
        TextColumn("images"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, quiet=not processes.first),
        transient=True,
    ) as progress:
        left = None if source.total is None else max(source.total - parts.rows(), 0)
        bar = progress.add_task("", total=None if left is None else -(-left // processes.world_size))
        _, unreadable = write_table(
            network,
            source,
            parts,
            columns=columns,
            processes=processes,
            forward=forward,
            image_size=image_size,
            batch_size=batch_size,
            workers=workers,
            on_rows=lambda rows: progress.advance(bar, rows),
        )
    return unreadable


def _report(unreadable: Sequence[str]) -> None:
    for message in unreadable[:_REPORTED]:
        print(f"recnext: cannot read {message}", file=sys.stderr)
    if len(unreadable) > _REPORTED:
        print(f"recnext: and {len(unreadable) - _REPORTED} more, see the column 'error'", file=sys.stderr)
