"""The whole job on synthetic scenes in about three minutes: train, evaluate, fold, draw."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from recnext.nn.fusion import fuse
from recnext.tasks.detection.batches import evaluation_loader
from recnext.tasks.detection.checkpoint import load
from recnext.tasks.detection.data import CocoFolder, open_split
from recnext.tasks.detection.draw import draw_detections
from recnext.tasks.detection.evaluate import DetectionResult, evaluate
from recnext.tasks.detection.evaluation import report
from recnext.tasks.detection.job import DetectionJob
from recnext.tasks.detection.model import Detector
from recnext.tasks.detection.predict import Finder
from recnext.tasks.detection.settings import DetectSettings

from .running import Lines, clear, framed, parameter_line, train_demo
from .shape_folders import ShapeCollection, write_coco

SIZE = 96
_IMAGES = (600, 75)
_SHAPES = (1, 3)  # an image
_CROWDS = 0.05
_EVALUATIONS = 3
_DRAWN = 6  # held-out scenes in samples.png


def demo_settings(output: Path, *, steps: int = 640) -> DetectSettings:
    """A narrow RecNeXt-M with a narrow pyramid and heads, from scratch.

    Args:
        output: run folder.
        steps: of eight images.
    """
    return DetectSettings(
        model="recnext_m0",
        model_args={"embed_dim": [16, 32, 64, 128], "depths": [1, 1, 3, 1]},
        channels=32,
        box_features=128,
        mask_layers=1,
        anchor_scale=4.0,
        proposals=128,
        roi_samples=64,
        image_size=SIZE,
        scale=(1.0, 1.0),
        photometric=False,
        steps=steps,
        evaluate_every=-(-steps // _EVALUATIONS),
        batch_size=8,
        lr=4e-3,
        warmup_steps=min(50, steps // 4),
        workers=0,
        device="cpu",
        output=str(output),
    )


def run_demo(output: Path, *, steps: int = 640, images: tuple[int, int] = _IMAGES, console: Console) -> Lines:
    """Draws scenes, trains, evaluates, folds; leaves data, run folder and pictures in `output`.

    Args:
        output: folder; an earlier demo in it is replaced.
        steps: of training.
        images: to train on, and held out.
        console: for the progress.

    Raises:
        MissingExtraError: faster-coco-eval is not installed.
        RecNextError: there is another run in the folder.
        KeyboardInterrupt: Ctrl-C while training.
    """
    data = output / "data"
    clear(output)
    scenes = ShapeCollection(train=images[0], val=images[1], size=(SIZE, SIZE), shapes=_SHAPES, crowds=_CROWDS)
    write_coco(data, scenes)
    duration = train_demo(DetectionJob(), demo_settings(output, steps=steps), data=data, console=console)
    model = load(output)
    folded = fuse(model)
    folder = open_split(data, "val", masks=True)
    plain, fused = (_evaluated(network, folder) for network in (model, folded))
    report(plain, folder, fused=fused.summary()).write(output / "evaluation")
    draw_samples(output / "samples.png", folded, folder)
    box, mask = plain.box, plain.mask
    assert mask is not None
    others = (box.numbers["ap"], mask.numbers["ap50"], mask.numbers["ap"])
    classes = zip(model.labels, box.per_class50, strict=True)
    return [
        ("held-out box AP50", f"{box.numbers['ap50']:.2f} % of {plain.images} scenes"),
        ("box AP, mask AP50, mask AP", ", ".join(f"{value:.2f} %" for value in others)),
        ("box AP50 of each class", ", ".join(f"{name} {value:.2f}" for name, value in classes)),
        ("after folding", f"box AP50 {fused.box.numbers['ap50']:.2f} %"),
        parameter_line(model, folded),
        ("training", duration),
    ]


def draw_samples(path: Path, model: Detector, folder: CocoFolder) -> None:
    """Draws held-out scenes in two rows: the annotations above, what was detected below.

    Args:
        path: of the PNG.
        model: knows its classes.
        folder: of the scenes.
    """
    finder = Finder(model)
    columns = []
    for index in range(min(_DRAWN, len(folder))):
        image, target = folder[index]
        pixels = image.permute(1, 2, 0).numpy()
        truth = draw_detections(pixels, target, finder.class_names)
        found = draw_detections(pixels, finder(pixels), finder.class_names)
        columns.append(np.concatenate([framed(truth, 2), framed(found, 2)]))
    Image.fromarray(np.concatenate(columns, axis=1)).save(path)


def _evaluated(model: Detector, folder: CocoFolder) -> DetectionResult:
    loader = evaluation_loader(folder)
    return evaluate(model, loader, file=folder.file, masks=True, device=torch.device("cpu")).compute()
