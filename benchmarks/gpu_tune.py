"""Times every Triton kernel of RecConv over block shapes on this GPU: where `Tuning`'s defaults come from.

    python benchmarks/gpu_tune.py --out results.json

Kernels are compiled in parallel first. The numbers are medians of GPU event times in milliseconds at m1's stage
shapes, batch 256, bfloat16, with the rate over the bytes that the kernel must read and write.
"""

import argparse
import concurrent.futures
import itertools
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable
from typing import Any

import torch

from recnext.nn.ops import launch

STAGES = {0: (48, 56, 4), 1: (96, 28, 3), 2: (192, 14, 2), 3: (384, 7, 1)}  # channels, size, level
SHAPES = {
    "conv": [(2, 128, 4), (4, 128, 4), (2, 256, 4), (4, 256, 4), (2, 128, 2), (4, 64, 2)],
    "down": [(1, 256, 4), (2, 128, 4), (2, 256, 4), (4, 128, 4)],
    "conv_backward": [(2, 128, 4), (4, 128, 4), (2, 256, 4), (2, 64, 2), (2, 256, 8)],
    "down_backward": [(1, 128, 4), (2, 128, 4), (1, 256, 4), (1, 256, 8)],
    "resize_backward": [(1, 256, 4), (1, 512, 4)],
}


def median_ms(call: Callable[[], Any], repeats: int = 15) -> float:
    """Median GPU time of a call after two warm ones, with the L2 cache flushed before each."""
    flush = torch.empty(64 << 20, dtype=torch.int32, device="cuda")
    for _ in range(2):
        call()
    times = []
    for _ in range(repeats):
        flush.zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def kernel_calls(stage: int, batch: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Every kernel at its largest map of the stage, and the bytes it must move."""
    channels, size, level = STAGES[stage]
    x = torch.randn(batch, channels, size, size, device="cuda", dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last)
    weights = [torch.randn(channels, 1, 5, 5, device="cuda") * 0.2 for _ in range(level + 2)]
    run = launch._Run(x, weights[0], weights[1:], None, [], "bilinear")
    features, below = run.pyramid()
    out, wide = run.map(0, torch.bfloat16), run.map(0)
    partial = run.empty((2 * level + 1) * launch.TUNING.partial_programs, 26, channels)
    n, coarse = x.numel(), features[1].numel()
    return {
        "conv": (lambda: run.conv(run.x, below[0], 1 + level, 0, out), 4 * n + 4 * coarse),
        "conv f32": (lambda: run.conv(features[1], below[1], level, 1, features[1].clone()), 16 * coarse),
        "down": (lambda: run.down(run.x, 1), 2 * n + 4 * coarse),
        "conv_backward": (
            lambda: run.conv_backward(run.x, run.x, below[0], 0, wide, partial, programs_for(run)),
            8 * n + 4 * coarse,
        ),
        "down_backward": (
            lambda: run.down_backward(features[1], run.x, wide, 1, out, partial, programs_for(run)),
            8 * n + 4 * coarse,
        ),
        "resize_backward": (lambda: run.resize_backward(wide, 1), 4 * n + 4 * coarse),
    }


def programs_for(run: Any) -> int:
    blocks = run.plan(launch.TUNING.conv_backward, 0)
    return max(1, min(launch.TUNING.partial_programs, blocks.grid) // blocks.channel_blocks)


def with_shape(kernel: str, shape: tuple[int, int, int]) -> None:
    launch.TUNING = launch.Tuning()._replace(**{kernel.split()[0]: launch.Tile(*shape)})


def compile_one(task: tuple[int, str, tuple[int, int, int]]) -> str:
    stage, kernel, shape = task
    with_shape(kernel, shape)
    try:
        kernel_calls(stage, 2)[kernel][0]()
        torch.cuda.synchronize()
    except Exception as exc:  # a shape that does not compile is a row of the table, not the end of the run
        return f"{task}: {type(exc).__name__}: {str(exc)[:200]}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--kernels", nargs="*", default=list(SHAPES))
    args = parser.parse_args()
    tasks = [
        (stage, kernel, shape) for kernel in args.kernels for stage, shape in itertools.product(STAGES, SHAPES[kernel])
    ]
    with concurrent.futures.ProcessPoolExecutor(
        min(12, os.cpu_count() or 1), multiprocessing.get_context("spawn")
    ) as pool:
        failures = {task: why for task, why in zip(tasks, pool.map(compile_one, tasks), strict=True) if why}
    for why in failures.values():
        print(why)
    rows = []
    for task in tasks:
        if task in failures:
            continue
        stage, kernel, shape = task
        with_shape(kernel, shape)
        calls = kernel_calls(stage, args.batch)
        torch.cuda.synchronize()
        for name in [kernel, "conv f32"] if kernel == "conv" and stage < 2 else [kernel]:
            call, moved = calls[name]
            ms = median_ms(call)
            rows.append({"stage": stage, "kernel": name, "shape": shape, "ms": ms, "tb_s": moved / ms / 1e9})
            print(f"{name:16} stage {stage} {shape!s:14} {ms:.3f} ms {moved / ms / 1e9:.2f} TB/s", flush=True)
    with open(args.out, "w") as file:
        json.dump({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
