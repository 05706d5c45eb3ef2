"""`recnext segment`: train, evaluate and use segmenters."""

import json as jsonlib
from pathlib import Path
from typing import Any, Optional

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recnext.data.images import Unreadable, UnreadableImageError
from recnext.data.listing import find_images
from recnext.data.video import split_videos
from recnext.engine.devices import choose_device
from recnext.engine.processes import joined
from recnext.errors import RecNextError
from recnext.study.demo.segmentation import run_demo
from recnext.tasks.segmentation import load
from recnext.tasks.segmentation.batches import evaluation_loader
from recnext.tasks.segmentation.data import open_evaluation
from recnext.tasks.segmentation.evaluate import evaluate, preparation_of
from recnext.tasks.segmentation.job import SegmentationJob
from recnext.tasks.segmentation.output import ImageWriter, write_result, write_video
from recnext.tasks.segmentation.predict import Segmented, Segmenter
from recnext.tasks.segmentation.settings import SegmentSettings

from .segment_tables import demo_table, result_table
from .shared import SMALLEST_IMAGE, require_at_least, require_folder
from .training_run import run_training


def train(data: str, **settings: Any) -> int:
    """Trains a Semantic FPN on images with masks.

    DATA is ADE20K's layout (DATA/images/training, DATA/annotations/training and the same for validation) or
    DATA/train/images, DATA/train/masks, DATA/val/images, DATA/val/masks with DATA/classes.txt. The defaults suit a few
    hundred images; --config ade20k_semantic_fpn_80k is the published recipe. Ctrl-C and SIGTERM save at the end of a
    step; --resume goes on exactly there. Also runs under torchrun and accelerate launch.

    Args:
        data: folder of images and masks.
    """
    return run_training(SegmentationJob(), SegmentSettings(**settings), given=settings, data=data)


def evaluation(
    data: str,
    *,
    checkpoint: str,
    backbone: Optional[str] = None,
    ema: bool = False,
    fused: bool = True,
    image_size: Optional[int] = None,
    window: int = 0,
    num_classes: Optional[int] = None,
    mask_values: Optional[tuple[int, ...]] = None,
    workers: int = 2,
    device: str = "auto",
    json: bool = False,
    output: Optional[str] = None,
) -> int:
    """Measures mIoU, mAcc and aAcc of a segmenter from one confusion matrix over all pixels.

    Also under torchrun or accelerate launch: the processes share the images, and the numbers are the same.

    Args:
        data: as for train; the validation images are used. Or a folder that holds images and masks.
        checkpoint: a published checkpoint, a run folder, a weight file or a hub id.
        backbone: timm name, such as recnext_m3, where the checkpoint does not tell.
        ema: the moving average of the weights.
        fused: fold every BatchNorm before: the same answers, faster.
        image_size: shorter side at which images are segmented; by default the one of training, 512 for published.
        window: side of a sliding window in pixels of that size; 0 segments whole images, as published.
        num_classes: classes, where no classes.txt names them.
        mask_values: what masks hold for each class, such as [0,255], as in training.
        workers: processes that load images.
        device: auto, cpu, cuda, cuda:1, mps.
        json: print JSON instead of a table.
        output: folder for result.json and per_class.csv.
    """
    require_at_least(0, workers=workers, window=window)
    require_at_least(SMALLEST_IMAGE, image_size=image_size, window=window or None)
    require_folder(output)
    images = open_evaluation(Path(data), num_classes=num_classes, values=mask_values)
    with joined(device) as processes:
        model = load(checkpoint, backbone=backbone, ema=ema, fused=fused, device=processes.device)
        if model.num_classes != len(images.class_names):
            raise RecNextError(
                f"{checkpoint} tells {model.num_classes} classes apart, {data} has {len(images.class_names)}: "
                "evaluate on the classes it was trained for"
            )
        preparation = preparation_of(model, image_size=image_size)
        console = Console(stderr=json, quiet=not processes.first)
        share = {"rank": processes.rank, "world_size": processes.world_size}
        loader = evaluation_loader(
            images, preparation=preparation, workers=workers, pin_memory=processes.device.type == "cuda", **share
        )
        with _progress(console, "evaluating") as progress:
            bar = progress.add_task("", total=len(loader))
            meter = evaluate(
                model,
                loader,
                num_classes=model.num_classes,
                preparation=preparation,
                device=processes.device,
                window=window,
                on_image=lambda: progress.advance(bar),
            )
        result = meter.compute()
    if not processes.first:
        return 0
    facts: dict[str, Any] = {
        "checkpoint": checkpoint,
        "backbone": model.pretrained_cfg["architecture"],
        "data": str(images.root),
        "images": result.images,
        "classes": model.num_classes,
        "image_size": preparation.image_size,
        "window": window,
        **result.summary(),
    }
    if output is not None:
        write_result(Path(output), facts, result, images.class_names)
    if json:
        print(jsonlib.dumps(facts, indent=1, ensure_ascii=False))
        return 0
    console.print(result_table(facts, result, images.class_names))
    if output is not None:
        console.print(f"per-class results in {output}", highlight=False, soft_wrap=True)
    return 0


def predict(
    images: list[str],
    *,
    checkpoint: str,
    backbone: Optional[str] = None,
    ema: bool = False,
    fused: bool = True,
    image_size: Optional[int] = None,
    window: int = 0,
    device: str = "auto",
    json: bool = False,
    output: str = "runs/segmented",
) -> int:
    """Segments images and videos; writes a drawn overlay and a mask for each.

    NAME.png is the overlay with its legend; NAME_mask.png holds the class numbers as a palette image. A video becomes
    NAME.mp4. Images that cannot be read are reported at the end and do not stop the others; the exit status is then 1.

    Args:
        images: files, folders (searched to any depth), patterns, http(s) addresses, videos.
        checkpoint: a published checkpoint, a run folder, a weight file or a hub id.
        backbone: timm name, such as recnext_m3, where the checkpoint does not tell.
        ema: the moving average of the weights.
        fused: fold every BatchNorm before: the same answers, faster.
        image_size: shorter side at which images are segmented; by default the one of training, 512 for published.
        window: side of a sliding window in pixels of that size; 0 segments whole images.
        device: auto, cpu, cuda, cuda:1, mps.
        json: print a JSON list of what was found in each image.
        output: folder for the pictures.
    """
    require_at_least(0, window=window)
    require_at_least(SMALLEST_IMAGE, image_size=image_size, window=window or None)
    require_folder(output)
    stills, videos = split_videos(images)
    found = list(find_images(stills)) if stills else []
    model = load(checkpoint, backbone=backbone, ema=ema, fused=fused, device=choose_device(device))
    segmenter = Segmenter(model, image_size=image_size, window=window)
    writer = ImageWriter(Path(output))
    console = Console(stderr=True)
    unreadable: list[Unreadable] = []
    results: list[dict[str, Any]] = []
    with _progress(console, "segmenting") as progress:
        bar = progress.add_task("", total=len(found), visible=bool(found))
        for result in segmenter.images(found):
            if isinstance(result, Segmented):
                results.append(writer.write(result))
                if not json:
                    print(_line(results[-1]))
            else:
                unreadable.append(result)
            progress.advance(bar)
        for video in videos:
            try:
                results.append(write_video(segmenter, Path(video), writer, progress=progress))
            except UnreadableImageError as error:
                unreadable.append(Unreadable(video, str(error)))
    if json:
        print(jsonlib.dumps(results, indent=1, ensure_ascii=False))
    else:
        console.print(f"{len(results)} segmented, in {output}", highlight=False, soft_wrap=True)
    for failed in unreadable:
        console.print(f"recnext: cannot read {failed.image}: {failed.reason}", highlight=False, soft_wrap=True)
    return int(bool(unreadable))


def demo(output: str = "runs/segment_demo", epochs: int = 11) -> int:
    """Trains a narrow segmenter on synthetic scenes, evaluates it, folds its BatchNorms and draws predictions.

    Args:
        output: folder for data, run and pictures; an earlier demo in it is replaced.
        epochs: of training.
    """
    require_at_least(1, epochs=epochs)
    console = Console()
    folder = Path(output)
    result = run_demo(folder, epochs=epochs, console=console)
    console.print(demo_table(result, folder))
    console.print("Next:\n", highlight=False)
    for command in next_commands(folder):
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)
    return 0


def next_commands(folder: Path) -> tuple[str, str]:
    """What to run next: as they stand, they work on the demo's own data."""
    return (
        f"recnext segment predict {folder}/data/images/validation --checkpoint {folder} --output {folder}/predictions",
        f"recnext segment eval {folder}/data --checkpoint {folder} --output {folder}/evaluation",
    )


def _line(result: dict[str, Any]) -> str:
    classes = ", ".join(f"{found['name']} {100 * found['share']:.1f}%" for found in result["classes"])
    return f"{result['image']}: {classes}"


def _progress(console: Console, text: str) -> Progress:
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


run = {"train": train, "eval": evaluation, "predict": predict, "demo": demo}
