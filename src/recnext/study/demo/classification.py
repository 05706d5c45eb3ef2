"""Trains a narrow RecNeXt-M on the embedded digits with the loop of `recnext train`, and shows what it can do."""

import math
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from recnext.checkpoints import load, save
from recnext.data import DataSplits, ImagePreparation, normalise
from recnext.deploy.optimize.trial import interleaved
from recnext.engine.figures import can_draw
from recnext.nn.fusion import fuse
from recnext.tasks.classification.accuracy import Accuracy
from recnext.tasks.classification.data import open_for, preparation_of
from recnext.tasks.classification.draw import draw_confusion
from recnext.tasks.classification.evaluate import evaluate_classifier
from recnext.tasks.classification.evaluation import by_class
from recnext.tasks.classification.job import ClassificationJob
from recnext.tasks.classification.settings import TrainSettings

from .digits import CLASS_NAMES, SIZE, Digits, write_folders
from .running import Lines, clear, parameter_line, train_demo
from .samples import draw_samples

_ROUNDS = 30
_SOURCE = "scikit-learn's digits"


def demo_settings(output: Path, *, epochs: int) -> TrainSettings:
    """A network of 0.26 M parameters at 32 px, and what trains it well in few epochs."""
    return TrainSettings(
        model="recnext_m0",
        model_args={"embed_dim": [16, 32, 64, 128], "depths": [1, 1, 3, 1]},
        image_size=SIZE,
        epochs=epochs,
        batch_size=32,
        lr=2e-3,
        crop_scale=1,  # the digits fill their images, and a mirrored one is another sign: no augmentation
        workers=0,  # the images are in memory
        device="cpu",
        output=str(output),
    )


def run_demo(output: Path, *, epochs: int = 8, console: Console) -> Lines:
    """Trains, evaluates, folds and predicts; leaves run folder, data and pictures in `output`.

    Args:
        output: folder; an earlier demo in it is replaced.
        epochs: 8 reach about 99%.
        console: for the progress.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        RecNextError: there is another run in the folder.
        KeyboardInterrupt: Ctrl-C while training.
    """
    clear(output, _SOURCE)
    splits = DataSplits(train=Digits("train"), val=Digits("val"), class_names=CLASS_NAMES, source=_SOURCE)
    duration = train_demo(ClassificationJob(), demo_settings(output, epochs=epochs), data=splits, console=console)
    data = output / "data"
    write_folders(data)
    model = load(checkpoint=output)  # the best epoch
    folded = fuse(model)
    save(folded, output / "fused.safetensors")
    preparation = preparation_of(model)
    accuracy, fused_accuracy = (_accuracy(network, data, preparation) for network in (model, folded))
    by_class(accuracy.confusion, CLASS_NAMES).write(output / "per_class.csv")

    held_out = Digits("val")
    logits, fused_logits = (_logits(network, held_out.images, preparation) for network in (model, folded))
    if can_draw():
        draw_confusion(output / "confusion.png", accuracy.confusion, CLASS_NAMES)
        draw_samples(
            output / "samples.png",
            images=held_out.images,
            labels=torch.tensor(held_out.labels),
            probabilities=fused_logits.softmax(1),
            class_names=CLASS_NAMES,
        )
    difference = ((fused_logits - logits).abs().max() / logits.std()).item()
    return [
        ("held-out accuracy", f"{accuracy.top1:.2f} % of {accuracy.images} images"),
        ("after folding", f"{fused_accuracy.top1:.2f} %, logits differ by {difference:.0e}"),
        parameter_line(model, folded),
        ("one image", "{:.2f} ms → {:.2f} ms folded".format(*_milliseconds(model, folded))),
        ("training", duration),
    ]


def _accuracy(network: nn.Module, data: Path, preparation: ImagePreparation) -> Accuracy:
    images = open_for(network, data, checkpoint="the demo")
    return evaluate_classifier(
        network,
        images,
        preparation=preparation,
        device=torch.device("cpu"),
        workers=0,
    )


@torch.inference_mode()
def _logits(network: nn.Module, images: Tensor, preparation: ImagePreparation) -> Tensor:
    inputs = normalise(images, mean=preparation.mean, std=preparation.std, device=torch.device("cpu"))
    return network(inputs)


@torch.inference_mode()
def _milliseconds(*networks: nn.Module) -> list[float]:
    """The least time of a forward of one image, the networks by turns."""
    image = torch.randn(1, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    functions = {str(place): partial(network, image) for place, network in enumerate(networks)}
    times = interleaved(functions, rounds=_ROUNDS, seconds=math.inf, calls=1)
    return [1e3 * times[place].best for place in functions]
