"""`recnext laws`: RecConv against a plain depthwise convolution of the same receptive field."""

import json as jsonlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Optional

import torch
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from recnext.deploy.optimize.cache import processor
from recnext.deploy.optimize.trial import CLOCK, timed_turns, timing
from recnext.engine.figures import figure
from recnext.errors import RecNextError
from recnext.nn.mixers.recconv import RecConv2d
from recnext.study.analysis.laws import Law, law, plain_convolution
from recnext.study.analysis.receptive_field import nominal_receptive_field


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
    """
    for name, value, least in (("kernel", kernel, 1), ("levels", levels, 0), ("channels", channels, 1)):
        if value < least:
            raise RecNextError(f"--{name} is {value}: expected an integer from {least}")
    if rounds < 1 or (threads is not None and threads < 1):
        raise RecNextError("--rounds and --threads are integers from 1")
    if kernel % 2 == 0:
        raise RecNextError(f"--kernel is {kernel}: expected an odd integer, such as 3, 5 or 7")
    if size < 2**levels:
        raise RecNextError(f"--size is {size}: expected at least {2**levels} pixels to halve {levels} times")
    if levels > 7:
        raise RecNextError(f"--levels is {levels}: expected 7 at most, where a plain kernel has {kernel * 128} pixels")
    if threads is not None:
        torch.set_num_threads(threads)

    laws = measure(kernel, levels, channels, size, mode, rounds, quiet=json)
    setting = (
        f"k = {kernel}, {channels} channels, {size}x{size}, {mode}, float32, channels last, batch 1; "
        f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    if json:
        print(jsonlib.dumps({"setting": setting, "laws": [asdict(row) for row in laws]}, indent=1))
    else:
        Console().print(table(laws, setting))
    if output is not None:
        draw(output, laws, setting)
        print(f"drew {output}", file=sys.stderr)
    return 0


def measure(
    kernel: int, levels: int, channels: int, size: int, mode: str, rounds: int, *, quiet: bool = False
) -> list[Law]:
    """Times both sides of every level turn by turn, then counts and measures the rest."""
    x = torch.randn(1, channels, size, size).contiguous(memory_format=torch.channels_last)
    functions: dict[str, Callable[[], Any]] = {}
    for level in range(levels + 1):
        recconv = RecConv2d(channels, kernel, level=level, mode=mode)
        plain = plain_convolution(channels, nominal_receptive_field(kernel, level=level))
        functions[f"recconv {level}"] = _call(recconv, x)
        functions[f"plain {level}"] = _call(plain, x)
    times: dict[str, list[float]] = {name: [] for name in functions}
    turns = timed_turns(functions, times, rounds=rounds, seconds=math.inf, calls=1, least=CLOCK)
    laws = []
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        with torch.inference_mode():
            for _ in progress.track(turns, total=rounds, description="timing"):
                pass
        for level in progress.track(range(levels + 1), description="receptive fields"):
            seconds = timing(times[f"recconv {level}"]).median, timing(times[f"plain {level}"]).median
            laws.append(law(level, kernel_size=kernel, channels=channels, size=size, mode=mode, seconds=seconds))
    return laws


def _call(module: torch.nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    module = module.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda: module(x)


def table(laws: Sequence[Law], setting: str) -> Table:
    """The rows, RecConv and plain convolution beside each other."""
    last = laws[-1]
    gains = (
        f"{_short(last.plain.parameters / last.recconv.parameters)} times the parameters",
        f"{_short(last.plain.macs / last.recconv.macs)} times the MACs",
        f"{_short((last.plain.seconds or 0) / (last.recconv.seconds or 1))} times the time",
    )
    rows = Table(
        title="RecConv and a plain depthwise convolution of kernel k·2^l",
        caption=f"At l = {last.level} the plain convolution takes {', '.join(gains)}.\n{setting}",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for heading in ("l", "k·2^l", "reaches", "weight in\nk·2^l"):
        rows.add_column(heading, justify="right", vertical="bottom")
    for name in ("params", "MACs", "ms"):
        rows.add_column(f"{name}\nRecConv", justify="right")
        rows.add_column(f"{name}\nplain", justify="right", style="dim")
    for row in laws:
        sides = (row.recconv, row.plain)
        rows.add_row(
            str(row.level),
            str(row.receptive_field),
            str(row.support),
            f"{row.within:.0%}",
            *(_short(side.parameters) for side in sides),
            *(_short(side.macs) for side in sides),
            *(f"{1e3 * (side.seconds or 0):.3g}" for side in sides),
        )
    return rows


def _short(value: float) -> str:
    """Three digits with k, M or G."""
    for unit in ("", "k", "M"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}G"


def draw(path: Path, laws: Sequence[Law], setting: str) -> None:
    """Draws parameters, MACs and time against the receptive field.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    fields = [row.receptive_field for row in laws]
    panels: list[tuple[str, Callable[[Any], float]]] = [
        ("parameters", lambda cost: cost.parameters),
        ("MACs", lambda cost: cost.macs),
        ("milliseconds on this CPU", lambda cost: 1e3 * (cost.seconds or 0)),
    ]
    with figure(path, 10.5, 3.4) as drawing:
        for axes, (title, value) in zip(drawing.subplots(1, len(panels)), panels, strict=True):
            plain, ours = [value(row.plain) for row in laws], [value(row.recconv) for row in laws]
            axes.plot(fields, plain, "o--", color="#b0563b", label="plain depthwise")
            axes.plot(fields, ours, "o-", color="#1f6f8b", label="RecConv")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(fields, [str(field) for field in fields])
            axes.set_xlabel("receptive field k·2^l (pixels)")
            axes.set_title(title)
            axes.grid(axis="y", alpha=0.25)
            axes.annotate(
                f"{plain[-1] / ours[-1]:,.0f} times",
                (fields[-1], (plain[-1] * ours[-1]) ** 0.5),
                ha="right",
                va="center",
                color="#555555",
            )
        drawing.axes[0].legend(loc="upper left")
        drawing.supxlabel(setting, fontsize=7, color="#777777")
