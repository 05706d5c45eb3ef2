"""Trains a narrow RecNeXt-M on the embedded digits with the loop of `recnext train`, and shows what it can do."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from recnext.checkpoints import load, save
from recnext.data import DataSplits, ImagePreparation, normalise
from recnext.engine.figures import can_draw, draw_confusion
from recnext.engine.run import train
from recnext.engine.run_folder import RunFolder
from recnext.errors import RecNextError
from recnext.nn.fusion import fuse
from recnext.tasks.classification.accuracy import Accuracy
from recnext.tasks.classification.evaluate import evaluate_classifier, open_for, preparation_of
from recnext.tasks.classification.evaluation import by_class
from recnext.tasks.classification.job import ClassificationJob
from recnext.tasks.classification.settings import TrainSettings

from .digits import CLASS_NAMES, SIZE, Digits, write_folders
from .samples import draw_samples

_ROUNDS = 30
_SOURCE = "scikit-learn's digits"


@dataclass(frozen=True)
class DemoResult:
    """What the demo reached.

    Args:
        accuracy: of the best epoch's weights on the held-out digits.
        fused_accuracy: the same after folding every BatchNorm.
        fusion_difference: largest difference of the logits over their spread.
        parameters: before and after folding.
        milliseconds: a forward of one image, before and after folding.
        training_seconds: of all epochs, evaluation and saving included.
    """

    accuracy: Accuracy
    fused_accuracy: Accuracy
    fusion_difference: float
    parameters: tuple[int, int]
    milliseconds: tuple[float, float]
    training_seconds: float

    def lines(self) -> list[tuple[str, str]]:
        """The same for people, a title and a text each."""
        fused = f"{self.fused_accuracy.top1:.2f} %, logits differ by {self.fusion_difference:.0e}"
        return [
            ("held-out accuracy", f"{self.accuracy.top1:.2f} % of {self.accuracy.images} images"),
            ("after folding", fused),
            ("parameters", "{:,} → {:,} folded".format(*self.parameters)),
            ("one image", "{:.2f} ms → {:.2f} ms folded".format(*self.milliseconds)),
        ]


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


def run_demo(output: Path, *, epochs: int = 8, console: Console) -> DemoResult:
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
    _clear(output)
    console.rule("1  train", align="left")
    splits = DataSplits(train=Digits("train"), val=Digits("val"), class_names=CLASS_NAMES, source=_SOURCE)
    started = time.perf_counter()
    result = train(ClassificationJob(), demo_settings(output, epochs=epochs), data=splits, console=console)
    training_seconds = time.perf_counter() - started
    if result.interrupted is not None:
        raise KeyboardInterrupt

    console.rule("2  evaluate, fold, predict", align="left")
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
    return DemoResult(
        accuracy=accuracy,
        fused_accuracy=fused_accuracy,
        fusion_difference=((fused_logits - logits).abs().max() / logits.std()).item(),
        parameters=(_parameters(model), _parameters(folded)),
        milliseconds=_milliseconds(model, folded),
        training_seconds=training_seconds,
    )


def _clear(output: Path) -> None:
    """Removes what would make an earlier demo a run to resume."""
    data = RunFolder(output).read_config().get("data", _SOURCE)
    if data != _SOURCE:
        raise RecNextError(f"{output} holds a run on {data}, which the demo would replace: give another --output")
    for name in ("config.yaml", "state.pt"):
        (output / name).unlink(missing_ok=True)


def _accuracy(network: nn.Module, data: Path, preparation: ImagePreparation) -> Accuracy:
    images = open_for(network, data, checkpoint="the demo")
    return evaluate_classifier(
        network,
        images,
        preparation=preparation,
        num_classes=len(CLASS_NAMES),
        device=torch.device("cpu"),
        workers=0,
    )


@torch.inference_mode()
def _logits(network: nn.Module, images: Tensor, preparation: ImagePreparation) -> Tensor:
    inputs = normalise(images, mean=preparation.mean, std=preparation.std, device=torch.device("cpu"))
    return network(inputs)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@torch.inference_mode()
def _milliseconds(first: nn.Module, second: nn.Module) -> tuple[float, float]:
    """The least time of a forward of one image, the two networks by turns."""
    image = torch.randn(1, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    least = [float("inf"), float("inf")]
    for _ in range(_ROUNDS):
        for index, network in enumerate((first, second)):
            started = time.perf_counter()
            network(image)
            least[index] = min(least[index], time.perf_counter() - started)
    return least[0] * 1e3, least[1] * 1e3
