"""The whole job on synthetic scenes in about three minutes: train, evaluate, fold, draw."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from recnext.engine.run import train
from recnext.engine.run_folder import RunFolder
from recnext.errors import RecNextError
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

from .shape_folders import ShapeCollection, write_coco

SIZE = 96
_IMAGES = (600, 75)
_SHAPES = (1, 3)  # an image
_CROWDS = 0.05
_EVALUATIONS = 3
_DRAWN = 6  # held-out scenes in samples.png


@dataclass(frozen=True)
class DetectDemo:
    """What the demo reached.

    Attributes:
        result: of the best weights on held-out scenes.
        fused: of the same weights with every BatchNorm folded.
        parameters: before and after folding.
        training_seconds: of the training alone.
        class_names: in the order of the labels.
    """

    result: DetectionResult
    fused: DetectionResult
    parameters: tuple[int, int]
    training_seconds: float
    class_names: tuple[str, ...]

    def lines(self) -> list[tuple[str, str]]:
        """The same for people, a title and a text each."""
        box, mask = self.result.box, self.result.mask
        assert mask is not None
        others = (box.numbers["ap"], mask.numbers["ap50"], mask.numbers["ap"])
        classes = zip(self.class_names, box.per_class50, strict=True)
        return [
            ("held-out box AP50", f"{box.numbers['ap50']:.2f} % of {self.result.images} scenes"),
            ("box AP, mask AP50, mask AP", ", ".join(f"{value:.2f} %" for value in others)),
            ("box AP50 of each class", ", ".join(f"{name} {value:.2f}" for name, value in classes)),
            ("after folding", f"box AP50 {self.fused.box.numbers['ap50']:.2f} %"),
            ("parameters", "{:,} → {:,} folded".format(*self.parameters)),
            ("training", f"{self.training_seconds:.0f} s"),
        ]


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


def run_demo(output: Path, *, steps: int = 640, images: tuple[int, int] = _IMAGES, console: Console) -> DetectDemo:
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
    _clear(output, data)
    console.rule("1  draw scenes, train", align="left")
    scenes = ShapeCollection(train=images[0], val=images[1], size=(SIZE, SIZE), shapes=_SHAPES, crowds=_CROWDS)
    write_coco(data, scenes)
    settings = demo_settings(output, steps=steps)
    started = time.perf_counter()
    outcome = train(DetectionJob(), settings, data=data, console=console)
    training_seconds = time.perf_counter() - started
    if outcome.interrupted is not None:
        raise KeyboardInterrupt
    console.rule("2  evaluate, fold, draw", align="left")
    model = load(output)
    folded = fuse(model)
    folder = open_split(data, "val", masks=True)
    plain, fused = (_evaluated(network, folder) for network in (model, folded))
    report(plain, folder, fused=fused.summary()).write(output / "evaluation")
    draw_samples(output / "samples.png", folded, folder)
    return DetectDemo(plain, fused, (_parameters(model), _parameters(folded)), training_seconds, model.labels)


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
        columns.append(np.concatenate([_framed(truth), _framed(found)]))
    Image.fromarray(np.concatenate(columns, axis=1)).save(path)


def _framed(image: Image.Image) -> np.ndarray:
    return np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)), constant_values=255)


def _clear(output: Path, data: Path) -> None:
    """Removes what would make an earlier demo a run to resume."""
    there = RunFolder(output).read_config().get("data", str(data))
    if there != str(data):
        raise RecNextError(f"{output} holds a run on {there}, which the demo would replace: give another --output")
    for name in ("config.yaml", "state.pt"):
        (output / name).unlink(missing_ok=True)


def _evaluated(model: Detector, folder: CocoFolder) -> DetectionResult:
    loader = evaluation_loader(folder)
    return evaluate(model, loader, file=folder.file, masks=True, device=torch.device("cpu")).compute()


def _parameters(model: Detector) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
