"""`recnext detect`: train, evaluate and use detectors."""

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
from recnext.nn.fusion import fuse
from recnext.study.demo.detection import run_demo
from recnext.tasks.detection import load
from recnext.tasks.detection.batches import evaluation_loader
from recnext.tasks.detection.coco import read_coco
from recnext.tasks.detection.data import CocoFolder, open_images, open_split
from recnext.tasks.detection.evaluate import evaluate
from recnext.tasks.detection.job import DetectionJob
from recnext.tasks.detection.model import Detector
from recnext.tasks.detection.output import DrawingWriter, write_result, write_video
from recnext.tasks.detection.predict import Detected, Finder, resize_to
from recnext.tasks.detection.rle import mask_tools
from recnext.tasks.detection.settings import DetectSettings

from .detect_tables import demo_table, result_tables
from .shared import SMALLEST_IMAGE, require_at_least, require_folder
from .training_run import run_training


def train(data: str, **settings: Any) -> int:
    """Trains a Mask R-CNN on images with COCO annotations.

    DATA holds train/ and val/ with images and annotations/instances_train.json and instances_val.json; COCO 2017's own
    names are known too. The defaults suit a few hundred images; --config coco_mask_rcnn_1x is the published recipe.
    Ctrl-C and SIGTERM save at the end of a step; --resume goes on exactly there. Also runs under torchrun and
    accelerate launch.

    Args:
        data: folder of images and annotations.
    """
    return run_training(DetectionJob(), DetectSettings(**settings), given=settings, data=data)


def evaluation(
    data: str,
    *,
    checkpoint: str,
    backbone: Optional[str] = None,
    annotations: Optional[str] = None,
    masks: bool = True,
    fused: bool = True,
    image_size: Optional[int] = None,
    max_size: Optional[int] = None,
    batch_size: int = 1,
    workers: int = 2,
    device: str = "auto",
    json: bool = False,
    output: Optional[str] = None,
) -> int:
    """Measures a detector's average precision as COCO does, of boxes and of masks.

    Also under torchrun or accelerate launch: the processes share the images, and the numbers are the same.

    Args:
        data: as for train; the validation images are used. With --annotations, the folder of the images.
        checkpoint: a published checkpoint, a run folder, a weight file or a hub id.
        backbone: timm name, such as recnext_m3, where the checkpoint does not tell.
        annotations: a COCO JSON file of the images in DATA.
        masks: measure masks too, where the detector has them.
        fused: fold every BatchNorm before: the same answers, faster.
        image_size: shorter side of the images; by default the one of training, 800 for published.
        max_size: pixels that the longer side may have; by default in the ratio of training.
        batch_size: images at once; above 1 they are padded to one size, which moves the numbers a little.
        workers: processes that load images.
        device: auto, cpu, cuda, cuda:1, mps.
        json: print JSON instead of tables.
        output: folder for result.json, per_class.csv and detections.json.
    """
    require_at_least(0, workers=workers)
    require_at_least(1, batch_size=batch_size)
    require_at_least(SMALLEST_IMAGE, image_size=image_size, max_size=max_size)
    require_folder(output)
    mask_tools()
    with joined(device) as processes:
        model = load(checkpoint, backbone=backbone, device=processes.device)
        masks = masks and model.config.masks
        images = _open(Path(data), annotations, masks=masks)
        _require_same_classes(model, images, checkpoint)
        resize_to(model, image_size=image_size, max_size=max_size)
        console = Console(stderr=json, quiet=not processes.first)
        loading: dict[str, Any] = {"workers": workers, "pin_memory": processes.device.type == "cuda"}
        loading |= {"rank": processes.rank, "world_size": processes.world_size}
        with _progress(console, "evaluating") as progress:
            bar = progress.add_task("", total=-(-len(images) // processes.world_size))
            meter = evaluate(
                fuse(model) if fused else model,
                evaluation_loader(images, batch_size=batch_size, **loading),
                file=images.file,
                masks=masks,
                device=processes.device,
                on_images=lambda count: progress.advance(bar, count),
            )
        result = meter.compute()
    if not processes.first:
        return 0
    facts: dict[str, Any] = {
        "checkpoint": checkpoint,
        "backbone": model.config.backbone,
        "data": str(images.file.path),
        "images": result.images,
        "classes": model.config.num_classes,
        "image_size": [model.transform.min_size[-1], model.transform.max_size],
        "box": result.box.numbers,
        "mask": None if result.mask is None else result.mask.numbers,
        "passed_over": images.file.notes,
    }
    facts = _without_nan(facts)
    if output is not None:
        write_result(Path(output), facts, result, images.file.class_names)
    if json:
        print(jsonlib.dumps(facts, indent=1, ensure_ascii=False))
        return 0
    for note in (f"{checkpoint} on {images.file.path}", *images.file.notes):
        console.print(note, highlight=False, soft_wrap=True, markup=False)
    for table in result_tables(facts, result, images.file.class_names):
        console.print(table)
    if output is not None:
        console.print(f"per-class results and detections in {output}", highlight=False, soft_wrap=True)
    return 0


def predict(
    images: list[str],
    *,
    checkpoint: str,
    backbone: Optional[str] = None,
    fused: bool = True,
    threshold: float = 0.5,
    image_size: Optional[int] = None,
    max_size: Optional[int] = None,
    device: str = "auto",
    json: bool = False,
    output: str = "runs/detected",
) -> int:
    """Finds objects in images and videos; writes a drawn picture of each and all detections.

    NAME.png shows boxes, masks, classes and scores; detections.json lists them as a COCO results file does, with the
    file and class names beside. A video becomes NAME.mp4. Images that cannot be read are reported at the end and do
    not stop the others; the exit status is then 1.

    Args:
        images: files, folders (searched to any depth), patterns, http(s) addresses, videos.
        checkpoint: a published checkpoint, a run folder, a weight file or a hub id.
        backbone: timm name, such as recnext_m3, where the checkpoint does not tell.
        fused: fold every BatchNorm before: the same answers, faster.
        threshold: lowest score of what is drawn and listed.
        image_size: shorter side of the images; by default the one of training, 800 for published.
        max_size: pixels that the longer side may have; by default in the ratio of training.
        device: auto, cpu, cuda, cuda:1, mps.
        json: print the detections too.
        output: folder for pictures and detections.json.
    """
    require_at_least(SMALLEST_IMAGE, image_size=image_size, max_size=max_size)
    if not 0 <= threshold <= 1:
        raise RecNextError(f"--threshold is {threshold}: expected a score from 0 to 1")
    require_folder(output)
    stills, videos = split_videos(images)
    found = list(find_images(stills)) if stills else []
    model = load(checkpoint, backbone=backbone, device=choose_device(device))
    if model.config.masks:
        mask_tools()
    finder = Finder(fuse(model) if fused else model, threshold=threshold, image_size=image_size, max_size=max_size)
    writer = DrawingWriter(Path(output))
    console = Console(stderr=True)
    unreadable: list[Unreadable] = []
    records: list[dict[str, Any]] = []
    with _progress(console, "detecting") as progress:
        bar = progress.add_task("", total=len(found), visible=bool(found))
        for number, result in enumerate(finder.images(found), start=1):
            if isinstance(result, Detected):
                writer.write(result, finder.class_names)
                records += finder.records(result, image_id=number)
                if not json:
                    print(_line(result, finder.class_names))
            else:
                unreadable.append(result)
            progress.advance(bar)
        for video in videos:
            try:
                path, frames = write_video(finder, Path(video), writer, progress=progress)
            except UnreadableImageError as error:
                unreadable.append(Unreadable(video, str(error)))
                continue
            if not json:
                print(f"{video}: {frames} frames in {path}")
    listing = jsonlib.dumps(records, ensure_ascii=False)
    (Path(output) / "detections.json").write_text(listing + "\n", encoding="utf-8")
    if json:
        print(listing)
    else:
        count = len(found) + len(videos) - len(unreadable)
        console.print(f"{count} drawn, in {output}", highlight=False, soft_wrap=True)
    for failed in unreadable:
        console.print(f"recnext: cannot read {failed.image}: {failed.reason}", highlight=False, soft_wrap=True)
    return int(bool(unreadable))


def demo(output: str = "runs/detect_demo", steps: int = 640, images: int = 600) -> int:
    """Trains a narrow detector on synthetic scenes, evaluates it, folds its BatchNorms and draws detections.

    Args:
        output: folder for data, run and pictures; an earlier demo in it is replaced.
        steps: of training, eight images each.
        images: to train on; an eighth as many are held out.
    """
    require_at_least(1, steps=steps)
    require_at_least(10, images=images)
    console = Console()
    folder = Path(output)
    result = run_demo(folder, steps=steps, images=(images, max(images // 8, 5)), console=console)
    console.print(demo_table(result, folder))
    console.print("Next:\n", highlight=False)
    for command in next_commands(folder):
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)
    return 0


def next_commands(folder: Path) -> tuple[str, str]:
    """What to run next: as they stand, they work on the demo's own data."""
    return (
        f"recnext detect predict {folder}/data/val --checkpoint {folder} --output {folder}/predictions",
        f"recnext detect eval {folder}/data --checkpoint {folder} --output {folder}/evaluation",
    )


def _open(data: Path, annotations: Optional[str], *, masks: bool) -> CocoFolder:
    if annotations is None:
        return open_split(data, "val", masks=masks)
    if not data.is_dir():
        raise RecNextError(f"{data} is no folder: with --annotations, DATA is the folder of the images")
    return open_images(data, read_coco(Path(annotations), masks=masks), masks=masks)


def _require_same_classes(model: Detector, images: CocoFolder, checkpoint: str) -> None:
    names = images.file.class_names
    if model.config.num_classes != len(names):
        raise RecNextError(
            f"{checkpoint} tells {model.config.num_classes} classes apart, {images.file.path} has {len(names)}: "
            "evaluate on the classes it was trained for"
        )
    own = model.config.class_names
    if own is not None and own != names:
        first = next((ours, theirs) for ours, theirs in zip(own, names, strict=True) if ours != theirs)
        raise RecNextError(
            f"{checkpoint} was trained on other classes than those of {images.file.path} ({first[0]!r}, there "
            f"{first[1]!r}): evaluate on its own"
        )


def _line(result: Detected, class_names: tuple[str, ...]) -> str:
    pairs = zip(result.found["labels"].tolist(), result.found["scores"].tolist(), strict=True)
    shown = ", ".join(f"{class_names[label - 1]} {score:.2f}" for label, score in pairs)
    return f"{result.image}: {shown or 'nothing'}"


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN: what could not be judged is null."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    return None if isinstance(value, float) and value != value else value


def _progress(console: Console, text: str) -> Progress:
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


run = {"train": train, "eval": evaluation, "predict": predict, "demo": demo}
