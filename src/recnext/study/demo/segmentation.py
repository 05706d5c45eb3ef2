"""The whole job on synthetic scenes in about three minutes: train, evaluate, fold, draw."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from recnext.nn.fusion import fuse
from recnext.tasks.segmentation.batches import evaluation_loader
from recnext.tasks.segmentation.checkpoint import load
from recnext.tasks.segmentation.data import open_mask_folders
from recnext.tasks.segmentation.draw import legend, overlay
from recnext.tasks.segmentation.evaluate import evaluate, preparation_of
from recnext.tasks.segmentation.evaluation import report
from recnext.tasks.segmentation.job import SegmentationJob
from recnext.tasks.segmentation.metrics import SegmentationResult
from recnext.tasks.segmentation.model import SemanticFPN
from recnext.tasks.segmentation.predict import Segmenter
from recnext.tasks.segmentation.settings import SegmentSettings

from .running import Lines, clear, framed, parameter_line, train_demo
from .shape_folders import ShapeCollection, write_ade

SIZE = 96
_SCENES = ShapeCollection(train=600, val=60, size=(SIZE, SIZE))
_DRAWN = 8  # held-out scenes in samples.png
_ENLARGED = 2
_MARGIN = 88  # pixels for the rows' names


def demo_settings(output: Path, *, epochs: int = 11) -> SegmentSettings:
    """A narrow RecNeXt-M with a narrow Semantic FPN, from scratch.

    Args:
        output: run folder.
        epochs: of 75 steps.
    """
    return SegmentSettings(
        model="recnext_m0",
        model_args={"embed_dim": (16, 32, 64, 128), "depths": (1, 1, 3, 1)},
        neck_channels=48,
        head_channels=32,
        dropout=0.0,
        image_size=SIZE,
        scale=(1.0, 1.0),
        cat_max_ratio=1.0,
        photometric=False,
        epochs=epochs,
        batch_size=8,
        lr=8e-3,
        workers=0,
        device="cpu",
        output=str(output),
    )


def run_demo(output: Path, *, epochs: int = 11, console: Console) -> Lines:
    """Draws scenes, trains, evaluates, folds; leaves data, run folder and pictures in `output`.

    Args:
        output: folder; an earlier demo in it is replaced.
        epochs: of training.
        console: for the progress.

    Raises:
        RecNextError: there is another run in the folder.
        KeyboardInterrupt: Ctrl-C while training.
    """
    data = output / "data"
    clear(output)
    write_ade(data, _SCENES)
    duration = train_demo(SegmentationJob(), demo_settings(output, epochs=epochs), data=data, console=console)
    model = load(output)
    folded = fuse(model)
    plain, fused = (_evaluated(network, data) for network in (model, folded))
    class_names = open_mask_folders(data).class_names
    report(plain, class_names, data=str(data), fused=fused.summary()).write(output / "evaluation")
    draw_samples(output / "samples.png", folded, data)
    classes = zip(class_names, plain.iou.tolist(), strict=True)
    return [
        ("held-out mIoU", f"{plain.miou:.2f} % of {plain.images} scenes"),
        ("mAcc, aAcc", f"{plain.macc:.2f} %, {plain.aacc:.2f} %"),
        ("IoU of each class", ", ".join(f"{name} {iou:.2f}" for name, iou in classes)),
        ("after folding", f"mIoU {fused.miou:.2f} %"),
        parameter_line(model, folded),
        ("training", duration),
    ]


def draw_samples(path: Path, model: SemanticFPN, data: Path) -> None:
    """Draws held-out scenes in three rows: the image, the truth, the prediction; and the classes' colours.

    Args:
        path: of the PNG.
        model: knows its classes.
        data: of `write_ade`.
    """
    folder = open_mask_folders(data).val
    segmenter = Segmenter(model)
    columns = []
    for index in range(min(_DRAWN, len(folder))):
        image, labels = folder[index]
        pixels = image.permute(1, 2, 0).numpy()
        predicted = segmenter(pixels)
        drawn = [overlay(pixels, part, num_classes=len(folder.class_names)) for part in (labels.numpy(), predicted)]
        columns.append(np.concatenate([framed(part, 1) for part in (pixels, *drawn)]))
    sheet = Image.fromarray(np.concatenate(columns, axis=1))
    sheet = sheet.resize((sheet.width * _ENLARGED, sheet.height * _ENLARGED), Image.Resampling.NEAREST)
    classes = range(len(folder.class_names))
    side = legend(list(classes), None, folder.class_names, height=sheet.height)
    whole = Image.new("RGB", (_MARGIN + sheet.width + side.width, sheet.height), "white")
    whole.paste(sheet, (_MARGIN, 0))
    whole.paste(side, (_MARGIN + sheet.width, 0))
    draw = ImageDraw.Draw(whole)
    for row, text in enumerate(("image", "truth", "prediction")):
        draw.text(
            (8, (2 * row + 1) * sheet.height // 6), text, fill="black", font=ImageFont.load_default(14), anchor="lm"
        )
    whole.save(path)


def _evaluated(model: SemanticFPN, data: Path) -> SegmentationResult:
    folder = open_mask_folders(data).val
    preparation = preparation_of(model)
    loader = evaluation_loader(folder, preparation=preparation)
    return evaluate(
        model, loader, num_classes=model.num_classes, preparation=preparation, device=torch.device("cpu")
    ).compute()
