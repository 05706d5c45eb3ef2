"""`recnext ablate`: the published ablation of token mixers beside what is measured here."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal, Optional

from rich.table import Table

from recnext.screen import Screen
from recnext.study.analysis.ablation import AblationRow, measure_ablation
from recnext.study.speed.machine import this_processor

from .shared import make_table, print_json, progress_bar, require_at_least, set_threads


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
    require_at_least(1, batch_size=batch_size, rounds=rounds)
    set_threads(threads)
    with progress_bar(quiet=json) as bar:
        task = bar.add_task("")
        rows = measure_ablation(
            preset, mixers=mixers, batch_size=batch_size, rounds=rounds,
            on_step=lambda what, total: bar.update(task, advance=1, total=total, description=what),
        )  # fmt: skip
    setting = f"{preset}x{preset}; ms: fused, float32, channels last, batch {batch_size}, median of {rounds} turns; "
    setting += this_processor()
    if json:
        print_json({"setting": setting, "rows": [asdict(row) for row in rows]})
        return 0
    screen = Screen()
    screen.print(_table(rows, setting))
    screen.print("To train a row by the published recipe, 120 epochs at batch 1024 (IMAGENET holds train/ and val/):\n")
    for row in rows:
        screen.print(row.command)
    return 0


def _table(rows: Sequence[AblationRow], setting: str) -> Table:
    """Published numbers beside measured ones; a parameter count that differs from the published is marked."""
    table = make_table(
        *("token mixer", "top-1", "img/s", "parameters", "GMACs", "ms"),
        title="Token mixers in RecNeXt-M1: published and measured",
        caption=f"top-1: ImageNet, 120 epochs; img/s: RTX 3090; both published.\n{setting}",
    )
    for row in rows:
        differs = row.published_parameters not in (None, row.parameters)
        table.add_row(
            row.variant,
            "-" if row.top1 is None else f"{row.top1:.2f}",
            "-" if row.throughput is None else str(row.throughput),
            f"{row.parameters:,}" + (f" (published {row.published_parameters:,})" if differs else ""),
            f"{row.macs / 1e9:.3f}",
            f"{1e3 * row.seconds:.1f}",
        )
    return table
