"""`recnext ablate`: the published ablation of token mixers beside what is measured here."""

import json as jsonlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal, Optional

import torch
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from recnext.deploy.optimize.cache import processor
from recnext.errors import RecNextError
from recnext.study.analysis.ablation import Ablation, AblationRow


def run(
    *,
    preset: Literal[224, 384] = 224,
    mixers: Optional[list[str]] = None,
    batch_size: int = 1,
    rounds: int = 10,
    threads: Optional[int] = None,
    json: bool = False,
) -> int:
    """Prints RecNeXt-M1 with every token mixer of the paper's ablation, published beside measured.

    Published: ImageNet top-1 after 120 epochs and throughput on an RTX 3090. Measured: parameters, MACs, and the
    time of the fused network on this CPU, float32, channels last, all networks turn by turn in one run. Then
    the command that would train each row.

    Args:
        preset: image size of the ablation.
        mixers: token mixers, published or not, such as '[rec_5x5_bilinear, rec_9x9_nearest]';
            by default every one published at this size.
        batch_size: images of a timed pass.
        rounds: turns of timing; the median is printed.
        threads: CPU threads; by default torch's.
        json: print JSON instead of a table.
    """
    for name, value in (("batch-size", batch_size), ("rounds", rounds), ("threads", threads)):
        if value is not None and value < 1:
            raise RecNextError(f"--{name} is {value}: expected an integer from 1")
    if threads is not None:
        torch.set_num_threads(threads)

    ablation = Ablation(preset, mixers=mixers, batch_size=batch_size, rounds=rounds)
    with Progress(console=Console(stderr=True), transient=True, disable=json) as progress:
        task = progress.add_task("building", total=ablation.steps())
        for variant in ablation.build():
            progress.update(task, advance=1, description=f"building {variant}")
        for turn in ablation.time():
            progress.update(task, advance=1, description=f"turn {turn + 1}")
    rows = ablation.rows()

    setting = (
        f"{preset}x{preset}; ms: fused, float32, channels last, batch {batch_size}, median of {rounds} turns; "
        f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    if json:
        print(jsonlib.dumps({"setting": setting, "rows": [asdict(row) for row in rows]}, indent=1))
        return 0
    console = Console()
    console.print(table(rows, setting))
    console.print(
        "To train a row by the published recipe, 120 epochs at batch 1024 (IMAGENET holds train/ and val/):\n"
    )
    for row in rows:
        console.print(row.command, soft_wrap=True, highlight=False, markup=False)
    return 0


def table(rows: Sequence[AblationRow], setting: str) -> Table:
    """Published numbers beside measured ones; a parameter count that differs from the published is marked."""
    view = Table(
        title="Token mixers in RecNeXt-M1: published and measured",
        caption=f"top-1: ImageNet, 120 epochs; img/s: RTX 3090; both published.\n{setting}",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    view.add_column("token mixer")
    for heading in ("top-1", "img/s", "parameters", "GMACs", "ms"):
        view.add_column(heading, justify="right")
    for row in rows:
        differs = row.published_parameters not in (None, row.parameters)
        view.add_row(
            row.variant,
            "-" if row.top1 is None else f"{row.top1:.2f}",
            "-" if row.throughput is None else str(row.throughput),
            f"{row.parameters:,}" + (f" (published {row.published_parameters:,})" if differs else ""),
            f"{row.macs / 1e9:.3f}",
            f"{1e3 * row.seconds:.1f}",
        )
    return view
