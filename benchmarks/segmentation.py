"""Semantic FPN on RecNeXt-M3, one image of 512x512 on the CPU: as trained, in channels_last, folded, and in runtimes.

    python benchmarks/segmentation.py --threads 2

Networks have random weights, which cost as trained ones do, and give logits at stride 4; enlarging them is left out.
The variants take turns in one run; the table gives medians, and ratios to the first row. Prints the machine, versions,
threads, size, dtype and layout.
"""

import argparse
import json
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import recnext
from recnext.deploy.optimize.trial import timed_turns, timing
from recnext.study.speed.machine import describe_machine
from recnext.tasks.segmentation import build

FIRST = "as trained, NCHW"


def forward(model: nn.Module, image: Tensor, *, channels_last: bool) -> Callable[[], Tensor]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model, image = deepcopy(model).to(memory_format=layout), image.to(memory_format=layout)

    def run() -> Tensor:
        with torch.inference_mode():
            return model(image)

    return run


def variants(name: str, size: int, threads: int, backends: list[str]) -> dict[str, Callable[[], Tensor]]:
    torch.manual_seed(0)
    model = build(name).eval()
    image = torch.randn(1, 3, size, size)
    folded = recnext.fuse(model)
    functions = {
        FIRST: forward(model, image, channels_last=False),
        "as trained, channels_last": forward(model, image, channels_last=True),
        "folded, NCHW": forward(folded, image, channels_last=False),
        "folded, channels_last": forward(folded, image, channels_last=True),
    }
    for backend in backends:
        fast = recnext.optimize(model, image, backend=backend, precision="fp32", threads=threads)
        functions[f"recnext.optimize, {backend}"] = lambda fast=fast: fast(image)
    return functions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["recnext_m3"])
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--backends", nargs="*", default=["onnxruntime", "openvino"])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "segmentation.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    conditions = {
        "machine": describe_machine(torch.device("cpu"), args.threads),
        "batch": 1,
        "image_size": args.image_size,
        "dtype": "float32",
    }
    console = Console(width=110)
    console.print(conditions)
    table = Table("network", "variant", "ms", "times the first")
    rows = []
    for name in args.models:
        functions = variants(name, args.image_size, args.threads, args.backends)
        times: dict[str, list[float]] = {variant: [] for variant in functions}
        turns = timed_turns(functions, times, rounds=args.rounds, seconds=math.inf, calls=1, least=0.05)
        for _ in track(turns, name, total=args.rounds, transient=True):
            pass
        medians = {variant: timing(values).median for variant, values in times.items()}
        for variant, seconds in medians.items():
            row = {
                "network": name,
                "variant": variant,
                "milliseconds": 1e3 * seconds,
                "speedup": medians[FIRST] / seconds,
            }
            rows.append(row)
            table.add_row(name, variant, f"{row['milliseconds']:.1f}", f"{row['speedup']:.2f}")
    console.print(table)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
