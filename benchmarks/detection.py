"""Speed of a detector: whole, and of the parts written for it, each pair interleaved in one run.

    python benchmarks/detection.py --threads 2 --rounds 5

Prints Markdown. "As trained" is the unfolded network in the default memory layout. Weights are random and every
score counts, so that there are 100 detections to draw masks for.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recnext._version import __version__
from recnext.nn.fusion import fuse
from recnext.tasks.detection import create
from recnext.tasks.detection.masks import paste_masks
from recnext.tasks.detection.network.boxes import MaxIoUMatcher

SIZE = 640


def interleaved(first: Callable[[], Any], second: Callable[[], Any], rounds: int) -> tuple[float, float, float]:
    """Median milliseconds of each, and the median of the rounds' ratios first / second."""
    times: tuple[list[float], list[float]] = ([], [])
    first(), second()
    for _ in range(rounds):
        for job, taken in zip((first, second), times, strict=True):
            started = time.perf_counter()
            job()
            taken.append(1e3 * (time.perf_counter() - started))
    ratios = [one / other for one, other in zip(*times, strict=True)]
    return statistics.median(times[0]), statistics.median(times[1]), statistics.median(ratios)


def whole_image_paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Every mask sampled over the whole image."""
    height, width = size
    pasted = []
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.tolist(), strict=True):
        x = (torch.arange(width) + 0.5 - x1) / (x2 - x1) * 2 - 1
        y = (torch.arange(height) + 0.5 - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1)
        pasted.append(F.grid_sample(mask[None, None], grid[None], align_corners=False)[0] >= 0.5)
    return torch.stack(pasted)


def loop_matcher(iou: Tensor, positive: float, negative: float, least: float) -> Tensor:
    """Objects one after the other, as the published matcher goes."""
    highest, nearest = iou.max(0)
    matches = torch.full_like(nearest, -2)
    matches[highest < negative] = -1
    matches[highest >= positive] = nearest[highest >= positive]
    for owner, best in enumerate(iou.max(1).values):
        if best >= least:
            matches[iou[owner] == best] = owner
    return matches


def detector_row(rounds: int) -> list[str]:
    """Image of SIZE x SIZE through a Mask R-CNN with random weights that finds 100 objects."""
    torch.manual_seed(0)
    trained = create("recnext_m3", min_size=SIZE, max_size=SIZE)
    trained.roi_heads.score_thresh = 0.0
    folded = fuse(trained).to(memory_format=torch.channels_last)
    image = [torch.rand(3, SIZE, SIZE)]
    normalised = torch.randn(1, 3, SIZE, SIZE)
    rows = []
    for name, jobs in (
        ("Mask R-CNN, recnext_m3, one image", (lambda: trained(image), lambda: folded(image))),
        ("its backbone and pyramid", (lambda: trained.backbone(normalised), lambda: folded.backbone(normalised))),
    ):
        slow, fast, ratio = interleaved(*jobs, rounds)
        rows.append(f"| {name} | as trained {slow:.0f} ms | folded, channels_last {fast:.0f} ms | {ratio:.2f} |")
    return rows


def part_rows(rounds: int) -> list[str]:
    """Mask paste and matcher against naive loops, on data of COCO's usual sizes."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(100, 2, generator=generator) * torch.tensor([540.0, 380.0])
    boxes = torch.cat([corners, corners + 20 + 80 * torch.rand(100, 2, generator=generator)], 1)
    masks = torch.rand(100, 28, 28, generator=generator)
    size = (480, 640)
    iou = torch.rand(30, 200_000, generator=generator) ** 4
    matcher = MaxIoUMatcher(positive=0.7, negative=0.3, least=0.3)
    rows = []
    for name, naive, ours in (
        (
            "paste 100 masks of 20 to 100 px into 480x640",
            lambda: whole_image_paste(masks, boxes, size),
            lambda: paste_masks(masks, boxes, size=size),
        ),
        ("match 200,000 anchors to 30 objects", lambda: loop_matcher(iou, 0.7, 0.3, 0.3), lambda: matcher(iou)),
    ):
        slow, fast, ratio = interleaved(naive, ours, rounds)
        rows.append(f"| {name} | naive {slow:.1f} ms | here {fast:.1f} ms | {ratio:.2f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        rows = [*detector_row(arguments.rounds), *part_rows(10 * arguments.rounds)]
    print(f"| job at {SIZE} px | before | after | ratio |\n|---|---|---|---|")
    print("\n".join(rows))
    capability = torch.backends.cpu.get_cpu_capability()
    print(
        f"\nrecnext {__version__}, torch {torch.__version__}, {platform.machine()} ({capability}), "
        f"{arguments.threads} threads, float32, medians of {arguments.rounds} interleaved rounds "
        f"({10 * arguments.rounds} for the parts)."
    )


if __name__ == "__main__":
    main()
