"""A classifier, from any checkpoint, on labelled images or on one of ImageNet's other test sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional

from torch import Tensor, nn

from recnext.data.imagenet import wnids
from recnext.engine.figures import can_draw
from recnext.engine.processes import Processes
from recnext.engine.settings import require
from recnext.errors import RecNextError
from recnext.tasks.evaluation import Evaluation, EvaluationSettings, OnImages, checked, metric_lines
from recnext.tasks.grid import Grid

from .accuracy import Accuracy
from .data import open_for, preparation_of
from .draw import draw_confusion
from .evaluate import evaluate_classifier, with_mirror
from .imagenet import (
    CORRUPTED,
    TEST_SETS,
    LabelledSet,
    corruption_errors,
    mean_corruption_error,
    open_corruptions,
    open_test_set,
    real_accuracy,
)
from .job import METRICS
from .network import Accelerate, ClassifierSettings
from .reference import published_results

_WORST = 3  # classes shown
_VALIDATION = "ILSVRC2012_val_"
_Measure = Callable[[LabelledSet], Accuracy]


@dataclass(frozen=True, kw_only=True)
class ClassifierEvaluation(EvaluationSettings, ClassifierSettings):
    """What the evaluation of a classifier is asked for.

    Args:
        crop_pct: share of the resized image's side that is kept; by default what the checkpoint says.
        tta: also run the mirrored image and take the mean of the logits.
        backend: torch, compile, onnxruntime, openvino, or auto for the fastest by a short trial.
        precision: fp32, bf16, fp16, or auto: with torch fp32, otherwise also bf16 where the hardware has it.
    """

    crop_pct: Optional[float] = None
    tta: bool = False
    batch_size: int = 64
    fused: bool = False
    backend: str = "torch"
    precision: str = "auto"

    def __post_init__(self) -> None:
        EvaluationSettings.__post_init__(self)
        ClassifierSettings.__post_init__(self)
        crop = self.crop_pct
        require(self, "crop_pct", crop is None or 0 < crop <= 1, "a share above 0, at most 1")

    def evaluate(self, data: str, *, processes: Processes, on_images: OnImages, accelerate: Accelerate) -> Evaluation:
        """Measures accuracy, loss and calibration; the processes share the images.

        Args:
            data: class folders, a ``kind:place`` of `recnext.data.open_dataset`, or a test set of ImageNet.
            processes: which of them this is.
            on_images: for progress.
            accelerate: makes the form of the network that runs.

        Raises:
            RecNextError: no such checkpoint or data, they have other classes, or the weights are damaged.
            UnreadableImageError: names the first image that cannot be read.
        """
        network = self.load(processes.device)
        kind, sets = _open(data, network, checkpoint=self.source)
        preparation = preparation_of(network, image_size=self.size, crop_pct=self.crop_pct)
        example = self.example(network, processes.device)
        forward = checked(accelerate(network, example, backend=self.backend, precision=self.precision))
        forward = with_mirror(forward) if self.tta else forward
        total = sum(len(one.images) for by_severity in sets.values() for one in by_severity.values())
        share = -(-total // processes.world_size)

        def measure(labelled: LabelledSet) -> Accuracy:
            return evaluate_classifier(
                labelled.restrict(forward),
                labelled.images,
                preparation=preparation,
                batch_size=self.batch_size,
                workers=self.workers,
                device=processes.device,
                share=(processes.rank, processes.world_size),
                on_batch=lambda batch: on_images(len(batch.labels), share),
            )

        facts: dict[str, Any] = {
            "checkpoint": self.source,
            "data": data,
            "image_size": list(preparation.size),
            "crop_pct": preparation.crop_pct,
            "fused": self.fused,
            "tta": self.tta,
            "processes": processes.world_size,
            "published": published_results(_network_name(network, pretrained=self.pretrained), kind),
        }
        if kind == CORRUPTED:
            return _report_corruptions(facts, sets, measure)
        return _report(facts, sets[""][0], measure(sets[""][0]))


def _open(data: str, network: nn.Module, *, checkpoint: str) -> tuple[str, dict[str, dict[int, LabelledSet]]]:
    """(kind of data, what to evaluate by corruption and severity; one set under "" and 0)."""
    kind, _, place = data.partition(":")
    if kind == CORRUPTED or kind in TEST_SETS:
        classes, root = int(network.num_classes), Path(place)  # type: ignore[arg-type]
        if classes != len(wnids()):
            raise RecNextError(f"{checkpoint} knows {classes} classes: {kind} is for networks of ImageNet's 1000")
        return kind, open_corruptions(root) if kind == CORRUPTED else {"": {0: open_test_set(kind, root)}}
    images = open_for(network, data, checkpoint=checkpoint)
    return "imagenet" if _VALIDATION in _first_name(images) else kind, {"": {0: LabelledSet(images)}}


def _first_name(images: Any) -> str:
    return images.name(0) if hasattr(images, "name") and len(images) else ""


def _network_name(network: nn.Module, *, pretrained: bool) -> str:
    """Its architecture; published weights have a tag, too."""
    config = getattr(network, "pretrained_cfg", None) or {}
    name = str(config.get("architecture", ""))
    return f"{name}.{config['tag']}" if pretrained and config.get("tag") else name


def _report(facts: dict[str, Any], labelled: LabelledSet, result: Accuracy) -> Evaluation:
    names = tuple(labelled.images.class_names)
    numbers = result.numbers()
    facts |= {
        "images": result.images,
        "classes": len(names),
        **numbers,
        "ece": result.ece,
        "images_per_second": result.images_per_second,
    }
    real = _real(labelled, result, names)
    if real is not None:
        facts["top1_real"], facts["images_real"] = real
    lines = metric_lines(METRICS, numbers, published={"top1": _published(facts)})
    if real is not None:
        lines.append(("top-1, ReaL labels", f"{real[0]:.2f} % of {real[1]} images"))
    lines += [
        ("calibration error", f"{result.ece:.2f} %"),
        ("speed", f"{result.images_per_second:.0f} images/s per process, loading included"),
        ("lowest classes", _lowest(result, names)),
    ]
    files: dict[str, Callable[[Path], None]] = {}
    if can_draw():
        files["confusion.png"] = partial(draw_confusion, confusion=result.confusion, class_names=names)
    return Evaluation(facts=facts, lines=lines, classes=by_class(result.confusion, names), files=files)


def _real(labelled: LabelledSet, result: Accuracy, names: tuple[str, ...]) -> Optional[tuple[float, int]]:
    images = labelled.images
    if names != wnids() or _VALIDATION not in _first_name(images):
        return None
    return real_accuracy([images.name(position) for position in result.positions.tolist()], result.likeliest)


def _published(facts: Mapping[str, Any]) -> str:
    """The published numbers in words."""
    return ", ".join(f"{name} {value:g} %" for name, value in facts["published"].items())


def _lowest(result: Accuracy, names: tuple[str, ...]) -> str:
    totals, right = result.confusion.sum(1), result.confusion.diagonal()
    shares = [(int(r) / int(n), name) for r, n, name in zip(right, totals, names, strict=True) if n > 0]
    worst = [f"{name} {100 * share:.1f} %" for share, name in sorted(shares)[:_WORST] if share < 1]
    return ", ".join(worst) or "all are right"


def by_class(confusion: Tensor, names: Sequence[str]) -> Grid:
    """Images, correct ones, accuracy, and what each class is most confused with.

    Args:
        confusion: int64 (classes, classes), rows the truth.
        names: in the order of the rows.
    """
    rows: list[tuple[str | int | float, ...]] = []
    predicted_as = confusion.sum(0).tolist()
    for label, name in enumerate(names):
        row = confusion[label].clone()
        images, correct = int(row.sum()), int(row[label])
        row[label] = 0
        wrong, other = (int(value) for value in row.max(0))
        accuracy = 100 * correct / images if images else float("nan")
        rows.append((name, images, correct, accuracy, predicted_as[label], names[other] if wrong else "", wrong))
    return Grid(("class", "images", "correct", "accuracy", "predicted_as", "confused_with", "confusions"), rows)


def _report_corruptions(
    facts: dict[str, Any], sets: Mapping[str, Mapping[int, LabelledSet]], measure: _Measure
) -> Evaluation:
    top1 = {
        corruption: {severity: measure(one).top1 for severity, one in by_severity.items()}
        for corruption, by_severity in sets.items()
    }
    errors = corruption_errors(top1)
    facts["mce"] = mean_corruption_error(errors)
    facts["corruptions"] = {
        name: {"ce": errors[name], "top1": list(by_severity.values())} for name, by_severity in top1.items()
    }
    lines = []
    for name, by_severity in top1.items():
        values = "  ".join(f"{value:.1f}" for value in by_severity.values())
        lines.append((name, f"CE {errors[name]:.1f} %, top-1 by severity {values}"))
    known = _published(facts)
    lines.append(("mCE", f"{facts['mce']:.1f} %" + (f"  (published: {known})" if known else "")))
    return Evaluation(facts=facts, lines=lines)
