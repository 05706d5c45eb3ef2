"""`recnext laws`: RecConv against a plain depthwise convolution of the same receptive field."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Optional

from rich.table import Table

from recnext.errors import RecNextError
from recnext.files import require_output
from recnext.screen import Screen
from recnext.study.analysis.laws import Law, measure_laws
from recnext.study.draw.laws import draw_laws
from recnext.study.speed.machine import this_processor

from .shared import make_table, print_json, progress_bar, require_at_least, set_threads


def run(
    *,
    kernel: int = 5,
    levels: int = 5,
    channels: int = 48,
    size: int = 64,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    rounds: int = 7,
    threads: Optional[int] = None,
    output: Optional[Path] = None,
    json: bool = False,
    overwrite: bool = False,
) -> int:
    """Prints RecConv beside a plain depthwise convolution of kernel k * 2^l, for l = 0 to LEVELS.

    Receptive field (the law, the extent measured by gradients and how much of the weight lies within the law),
    parameters, MACs, and times measured turn by turn on this CPU, batch 1, float32, channels last.

    Args:
        kernel: odd kernel size k.
        levels: largest number of halvings l.
        channels: of the map; 48 are RecNeXt-M1's first.
        size: side of the map in pixels; a multiple of 2^LEVELS for the laws to be exact.
        mode: how RecConv resizes.
        rounds: turns of timing; the median is printed.
        threads: CPU threads; by default torch's.
        output: PNG to draw the comparison to.
        json: print JSON instead of a table.
        overwrite: replace files that this command did not write.
    """
    require_at_least(1, kernel=kernel, channels=channels, rounds=rounds)
    require_at_least(0, levels=levels)
    if kernel % 2 == 0:
        raise RecNextError(f"--kernel is {kernel}: expected an odd integer, such as 3, 5 or 7")
    if levels > 7:
        raise RecNextError(f"--levels is {levels}: expected 7 at most, where a plain kernel has {kernel * 128} pixels")
    if size < 2**levels:
        raise RecNextError(f"--size is {size}: expected at least {2**levels} pixels to halve {levels} times")
    if output is not None:
        require_output(output, overwrite=overwrite)
    set_threads(threads)
    with progress_bar(quiet=json) as bar:
        task = bar.add_task("", total=rounds + levels + 1)
        laws = measure_laws(
            kernel, levels=levels, channels=channels, size=size, mode=mode, rounds=rounds,
            on_step=lambda what: bar.update(task, advance=1, description=what),
        )  # fmt: skip
    setting = f"k = {kernel}, {channels} channels, {size}x{size}, {mode}, float32, channels last, batch 1; "
    setting += this_processor()
    if json:
        print_json({"setting": setting, "laws": [asdict(row) for row in laws]})
    else:
        Screen().print(_table(laws, setting))
    if output is not None:
        draw_laws(output, laws, setting)
        Screen(stderr=True).print(f"drew {output}")
    return 0


def _table(laws: Sequence[Law], setting: str) -> Table:
    """The rows, RecConv and plain convolution beside each other."""
    last = laws[-1]
    gains = (
        f"{_short(last.plain.parameters / last.recconv.parameters)} times the parameters",
        f"{_short(last.plain.macs / last.recconv.macs)} times the MACs",
        f"{_short((last.plain.seconds or 0) / (last.recconv.seconds or 1))} times the time",
    )
    table = make_table(
        *("l", "k·2^l", "reaches", "weight in\nk·2^l"),
        *(f"{name}\n{side}" for name in ("params", "MACs", "ms") for side in ("RecConv", "plain")),
        text=0,
        title="RecConv and a plain depthwise convolution of kernel k·2^l",
        caption=f"At l = {last.level} the plain convolution takes {', '.join(gains)}.\n{setting}",
    )
    for row in laws:
        sides = (row.recconv, row.plain)
        table.add_row(
            *(str(row.level), str(row.receptive_field), str(row.support), f"{row.within:.0%}"),
            *(_short(side.parameters) for side in sides),
            *(_short(side.macs) for side in sides),
            *(f"{1e3 * (side.seconds or 0):.3g}" for side in sides),
        )
    return table


def _short(value: float) -> str:
    """Three digits with k, M or G."""
    for unit in ("", "k", "M"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}G"
