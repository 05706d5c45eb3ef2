"""Errors of RecConv in reduced precision, level by level: the plain form in float16 beside ours.

    python benchmarks/precision.py      # seconds; writes benchmarks/results/precision.json and docs/recconv.md

RecConv of 64 channels and kernel 5 with default weights, and with four times those, on a map of 56x56 as networks
have it (standard deviation 8, mean 8). Where the result would leave float16, the last convolution scales it down, as
a folded norm does. The oracle is the definition in float64; errors are norms of the
difference over the norm of the result, infinite where a value is no finite number. Errors are the same on every
machine but for rounding.
"""

import argparse
import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recnext import RecConv2d
from recnext.nn.ops import recconv2d
from recnext.study.speed.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "precision.json"
PAGE = Path(__file__).parents[1] / "docs" / "recconv.md"
LEVELS = range(6)
SCALES = (1, 4)
FITS = 2**14  # what the result is scaled down to, if it is larger; float16 ends at 65504
FORMS = ("plain float16", "float16", "float16 autocast", "bfloat16")
_PLACE = re.compile(
    r"(<!-- precision: written by benchmarks/precision\.py -->\n).*?(<!-- end precision -->)", re.DOTALL
)


def layer_of(level: int, scale: int) -> RecConv2d:
    """Default weights, times `scale`."""
    torch.manual_seed(0)
    layer = RecConv2d(64, level=level).requires_grad_(False)
    for weight in layer.parameters():
        weight.mul_(scale)
    return layer


def plain(layer: RecConv2d, x: Tensor) -> Tensor:
    """The recursion as it is defined, in the dtype of the layer."""
    return recconv2d(x, layer.down.weight, [conv.weight for conv in layer.convs], mode=layer.mode)


def error(result: Tensor, expected: Tensor) -> float:
    difference = float((result.double() - expected).norm() / expected.norm())
    return difference if bool(result.isfinite().all()) else float("inf")


@torch.no_grad()
def measure(level: int, scale: int) -> dict[str, Any]:
    layer = layer_of(level, scale)
    x = torch.randn(1, 64, 56, 56, generator=torch.Generator().manual_seed(1)) * 8 + 8
    wide = deepcopy(layer).double()
    largest = float(plain(wide, x.double()).abs().max())
    for holder in (layer, wide):
        holder.convs[-1].weight.div_(max(1.0, largest / FITS))
    expected = plain(wide, x.double())
    half, brain = deepcopy(layer).half(), deepcopy(layer).bfloat16()
    with torch.autocast("cpu", dtype=torch.float16):
        cast = layer(x)
    results = {
        "plain float16": plain(half, x.half()),
        "float16": half(x.half()),
        "float16 autocast": cast,
        "bfloat16": brain(x.bfloat16()),
    }
    errors = {name: error(result, expected) for name, result in results.items()}
    return {"level": level, "scale": scale, "largest": largest, "errors": errors}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| weights | level | largest value before the norm | " + " | ".join(FORMS) + " |",
        "|---|---:|---:|" + "---:|" * len(FORMS),
    ]
    for row in rows:
        errors = [row["errors"][form] for form in FORMS]
        cells = ["not finite" if value == float("inf") else f"{value:.1e}" for value in errors]
        lines.append(f"| {row['scale']}x | {row['level']} | {row['largest']:,.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = [measure(level, scale) for scale in SCALES for level in LEVELS]
    report = {"machine": describe_machine(torch.device("cpu"), torch.get_num_threads()), "rows": rows}
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.output == RESULTS and PAGE.exists():
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(_PLACE.sub(lambda m: f"{m[1]}{table(rows)}\n{m[2]}", text), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
