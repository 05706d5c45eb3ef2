"""Images per second and core of the training input pipeline, against the published one written out here.

    python benchmarks/input_pipeline.py --rounds 7 --images 1024

Published: ImageFolder's loader, random resized crop, flip, RandAugment, ToTensor, Normalize and RandomErasing, all on
the CPU and in float32 from there on. Ours: the same draws of the same timm and torchvision operations in uint8; the
device normalises and erases whole batches. Both run in one worker process of a DataLoader with one thread; what counts
is the processor time of worker and main process together, so other programs do not disturb it much. The pipelines take
turns; ratios are medians over the rounds. The device's half is timed apart, on this CPU.

The JPEGs are views of about 500x375 pixels of real photographs that scikit-learn and matplotlib ship.
"""

import argparse
import json
import resource
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.datasets import load_sample_images
from timm.data.auto_augment import rand_augment_transform
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import pil_loader

from recnext.data import Augmentation, Batch, ImagePreparation, make_loader, prepare_batch
from recnext.data.images import read_image
from recnext.data.labelled import ImageFiles
from recnext.data.sampling import TrainBatches, seed_everything
from recnext.study.speed.machine import describe_machine

SIZE, BATCH = 224, 64
PREPARATION = ImagePreparation(size=(SIZE, SIZE), mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)
VIEWS = 8  # of each photograph
QUALITY = 90


def write_photographs(folder: Path) -> list[str]:
    """Cut-outs of 500x375 and 375x500 pixels; their paths."""
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    photographs = [Image.fromarray(image) for image in load_sample_images().images] + [Image.open(hopper)]
    paths = []
    for number, photograph in enumerate(photographs):
        for view in range(VIEWS):
            size = (500, 375) if view % 4 else (375, 500)
            scale = max(size[0] / photograph.width, size[1] / photograph.height) * (1 + view / VIEWS)
            whole = photograph.convert("RGB").resize(
                (round(photograph.width * scale) + 1, round(photograph.height * scale) + 1), Image.Resampling.LANCZOS
            )
            left, top = ((side - part) * view // VIEWS for side, part in zip(whole.size, size, strict=True))
            path = folder / f"{number}-{view}.jpg"
            whole.crop((left, top, left + size[0], top + size[1])).save(path, quality=QUALITY)
            paths.append(str(path))
    return paths


class Published(Dataset):
    """A sample as the published training script makes it."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        policy = {
            "translate_const": int(SIZE * 0.45),
            "img_mean": tuple(min(255, round(255 * value)) for value in IMAGENET_DEFAULT_MEAN),
            "interpolation": Image.Resampling.BICUBIC,
        }
        self.transform = transforms.Compose(
            [
                RandomResizedCropAndInterpolation(SIZE, scale=(0.08, 1.0), interpolation="bicubic"),
                transforms.RandomHorizontalFlip(),
                rand_augment_transform("rand-m9-mstd0.5-inc1", policy),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
                RandomErasing(0.25, mode="pixel", max_count=1, device="cpu"),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(pil_loader(self.paths[index])), 0


def published_epoch(paths: list[str]) -> int:
    loader = DataLoader(
        Published(paths), batch_size=BATCH, shuffle=True, num_workers=1, drop_last=True, worker_init_fn=one_thread
    )
    return sum(len(images) for images, _ in loader)


def our_epoch(paths: list[str], augmentation: Augmentation) -> int:
    source = ImageFiles([(path, 0) for path in paths], class_names=("photograph",))
    batches = TrainBatches(len(source), batch_size=BATCH)
    loader = make_loader(source, batches, transform=PREPARATION.training_transform(augmentation), workers=1)
    return sum(len(batch.images) for batch in loader)


def one_thread(_: int) -> None:
    torch.set_num_threads(1)


def processor_time() -> float:
    """Seconds of this process and of its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(entry.ru_utime + entry.ru_stime for entry in used)


def timed(epoch: Callable[[], int]) -> float:
    """Processor seconds an image."""
    before = processor_time()
    images = epoch()
    return (processor_time() - before) / images


def device_half(rounds: int) -> float:
    """Processor seconds an image of normalising and erasing on this CPU."""
    images = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    batch = Batch(images, torch.zeros(BATCH, dtype=torch.int64), positions=torch.arange(BATCH))
    options: dict[str, Any] = {"preparation": PREPARATION, "augmentation": Augmentation.published()}

    def step() -> int:
        return len(prepare_batch(batch, device=torch.device("cpu"), **options))

    step()
    return statistics.median(timed(step) for _ in range(rounds))


def resize_difference(paths: list[str], crops: int = 10) -> tuple[float, int]:
    """(share of the values that differ, largest difference) between torch's and Pillow's resized crops."""
    exact, fast = (
        PREPARATION.training_transform(replace(Augmentation.published(), fast_resize=value)).transforms[0]
        for value in (False, True)
    )
    differences = []
    for path in paths:
        image = read_image(path)
        for number in range(crops):
            results = []
            for crop in (exact, fast):
                seed_everything(number)
                results.append(np.asarray(crop(image)).astype(int))
            differences.append(abs(results[0] - results[1]))
    whole = np.stack(differences)
    return float((whole > 0).mean()), int(whole.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=1024, help="a round and pipeline")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        files = write_photographs(Path(folder))
        paths = (files * (arguments.images // len(files) + 1))[: arguments.images]
        pipelines: dict[str, Callable[[], int]] = {
            "published": lambda: published_epoch(paths),
            "recnext": lambda: our_epoch(paths, Augmentation.published()),
            "recnext, fast_resize": lambda: our_epoch(paths, replace(Augmentation.published(), fast_resize=True)),
        }
        for epoch in pipelines.values():
            epoch()  # files into memory, imports done
        seconds: dict[str, list[float]] = {name: [] for name in pipelines}
        for _ in track(range(arguments.rounds), "rounds", console=console, transient=True):
            for name, epoch in pipelines.items():
                seconds[name].append(timed(epoch))
        apart, furthest = resize_difference(files)
    machine = describe_machine(torch.device("cpu"), 1)
    result = {
        "machine": machine,
        "images": arguments.images,
        "rounds": arguments.rounds,
        "images_per_core_second": {name: 1 / statistics.median(values) for name, values in seconds.items()},
        "ratio_to_published": {
            name: statistics.median(theirs / ours for theirs, ours in zip(seconds["published"], values, strict=True))
            for name, values in seconds.items()
        },
        "fast_resize_values_apart": apart,
        "fast_resize_furthest_apart": furthest,
        "device_half_seconds_per_image_on_this_cpu": device_half(arguments.rounds),
    }
    table = Table("pipeline", "images/s a core", "ratio", title=f"{machine['processor']}, JPEGs of 500x375 to {SIZE}")
    for name, speed in result["images_per_core_second"].items():
        table.add_row(name, f"{speed:.0f}", f"{result['ratio_to_published'][name]:.2f}")
    console.print(table)
    half = 1e3 * result["device_half_seconds_per_image_on_this_cpu"]
    console.print(f"fast_resize: {100 * apart:.2f} % of the values differ from Pillow's, by {furthest} of 255 at most")
    console.print(f"normalising and erasing, the device's half: {half:.2f} ms an image when the device is this CPU")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
