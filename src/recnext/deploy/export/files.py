"""Exported files as networks: what prediction, evaluation and benchmarks call."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor, nn

from recnext.checkpoints.metadata import IMAGENET_MEAN, IMAGENET_STD
from recnext.deploy.optimize.network import first_line
from recnext.errors import MissingExtraError, RecNextError

from .report import listed
from .spec import ExportSpec
from .targets import SUFFIXES, Contents, FileRunner, Target, target_of_file

_PREFIX = "recnext."


def is_exported(name: str) -> bool:
    """Whether a name is that of an exported file, by its suffix."""
    return Path(name).suffix.lower() in SUFFIXES


class AsNetwork(nn.Module):
    """A file's runner behind the inputs and outputs of the network it was made from.

    Args:
        run: of a target.
        spec: what the file is.
        batch: the only batch it takes; None for any.

    Shape:
        normalised float32 (N, C, H, W), any N, to logits (N, classes) or the first map. Of a file that gives
        probabilities, their logarithm, whose softmax they are.
    """

    def __init__(self, run: FileRunner, spec: ExportSpec, *, batch: Optional[int] = None) -> None:
        super().__init__()
        self.run = run
        self.spec = spec
        self.batch = batch
        self.mean = torch.tensor(spec.mean).view(1, -1, 1, 1)
        self.std = torch.tensor(spec.std).view(1, -1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        outputs = torch.from_numpy(self.first(self.inputs(images)))
        return outputs.log() if self.spec.preprocess and self.spec.classifier else outputs

    def inputs(self, images: Tensor) -> np.ndarray:
        """Normalised images in the form of the file's input."""
        if self.spec.preprocess:
            pixels = 255 * (images * self.std + self.mean)
            return pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return images.contiguous().numpy()

    def first(self, x: np.ndarray) -> np.ndarray:
        """The first output of any number of inputs; a file of fixed batch gets them in parts, the last filled up."""
        if self.batch is None:
            return self.run(x)[0]
        parts = []
        for begin in range(0, len(x), self.batch):
            part = x[begin : begin + self.batch]
            filled = np.concatenate([part, np.repeat(part[-1:], self.batch - len(part), axis=0)])
            parts.append(self.run(filled)[0][: len(part)])
        return np.concatenate(parts)


class ExportedNetwork(AsNetwork):
    """An exported classifier, from its file.

    Has what timm's data functions and `recnext.tasks.classification.predict` ask of a network: `pretrained_cfg`,
    `num_classes`, `in_chans`.

    Args:
        path: of the file, ours or another's. What one does not say of itself is taken from ``<file>.json``, its
            report, or ImageNet's preparation is assumed.
        threads: CPU threads; by default the runtime's choice.
        maps: take a file that gives maps too; it has no classes, and `forward` gives the first map.
        trust: open a file of a format that can run any program while it is opened (``.pt2``: it is unpickled).

    Raises:
        RecNextError: no such file, a damaged one, one that needs `trust`, is no classifier, or cannot run here.
        MissingExtraError: its runtime is not installed.
    """

    def __init__(self, path: Path, *, threads: Optional[int] = None, maps: bool = False, trust: bool = False) -> None:
        target = _runnable(path, trust=trust)
        with _one_line(path, "is damaged, or not what its name says"):
            contents = target.contents(path)
            _check_image(path, contents)
            spec = spec_of(path, contents, target.header(path) or _header_of_report(path))
            run = target.load(path, threads=threads)
        if not spec.classifier and not maps:
            raise RecNextError(f"{path} gives maps, not classes: export a classifier, without --features")
        shape = contents.inputs[0].shape
        super().__init__(run, spec, batch=shape[0] if shape else None)
        sides = (shape[1:3] if spec.preprocess else shape[2:4]) if shape else (None, None)
        self.path = path
        self.backend = target.runtime or target.name
        self.precision = spec.precision
        self.size = None if None in sides else (int(sides[0] or 0), int(sides[1] or 0))
        self.in_chans = spec.channels
        self.num_classes = self._classes() if spec.classifier else 0
        names = spec.class_names
        self.pretrained_cfg = {
            "architecture": spec.name,
            "input_size": (spec.channels, *(self.size or spec.size)),
            "mean": spec.mean,
            "std": spec.std,
            "crop_pct": spec.crop_pct,
            "interpolation": spec.interpolation,
            **({"label_names": names} if names and len(names) == self.num_classes else {}),
        }

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float32 (N, C, H, W) to logits, or the logarithm of probabilities.

        Raises:
            RecNextError: images of another size than the only one the file takes, or ones it fails on.
        """
        height, width = images.shape[2:]
        if self.size not in (None, (height, width)):
            raise RecNextError(
                f"{self.path.name} takes images of {self.size[0]}x{self.size[1]} only, not {height}x{width}: "  # type: ignore[index]
                "leave the size out, or export again"
            )
        with _one_line(self.path, f"fails on images of {height}x{width}"):
            return super().forward(images)

    def _classes(self) -> int:
        size = self.size or self.spec.size
        with _one_line(self.path, f"fails on images of {size[0]}x{size[1]}"):
            shape = self.first(self.spec.example(self.batch or 1, size)).shape
        if len(shape) != 2:
            raise RecNextError(f"{self.path} gives {len(shape)}-dimensional outputs; a classifier gives (N, classes)")
        return int(shape[1])


class TimedFile:
    """An exported file for the benchmark: runs on noise in its own form, made once a batch.

    Args:
        path: of the file.
        size: of the square images, in pixels.
        threads: CPU threads; by default the runtime's choice.
        trust: as of `ExportedNetwork`.

    Raises:
        RecNextError: the file takes another size only, or as `ExportedNetwork`.
        MissingExtraError: as `ExportedNetwork`.
    """

    def __init__(self, path: Path, *, size: int, threads: Optional[int] = None, trust: bool = False) -> None:
        self.network = ExportedNetwork(path, threads=threads, maps=True, trust=trust)
        self.backend, self.precision = self.network.backend, self.network.precision
        self.size = (size, size)
        if self.network.size not in (None, self.size):
            height, width = self.network.size or ()
            fix = f"add --size {height}" if height == width else "the benchmark's are square, so export one for these"
            raise RecNextError(f"{path.name} takes images of {height}x{width} only, not {size}x{size}: {fix}")
        self._inputs: dict[int, np.ndarray] = {}

    def __call__(self, x: Tensor) -> np.ndarray:
        """Runs a batch as large as `x`; its values do not matter."""
        batch = len(x)
        if batch not in self._inputs:
            self._inputs = {batch: self.network.spec.example(batch, self.size)}
        return self.network.first(self._inputs[batch])


def spec_of(path: Path, contents: Contents, header: dict[str, str]) -> ExportSpec:
    """What a file is, from its header, or from its input alone."""
    texts = {key.removeprefix(_PREFIX): value for key, value in header.items() if key.startswith(_PREFIX)}
    plain = ("model", "interpolation", "precision", "version")
    known: dict[str, Any] = {key: value if key in plain else json.loads(value) for key, value in texts.items()}
    image = contents.inputs[0]
    pixels = bool(known.get("preprocess", image.dtype == "uint8"))
    sides = image.shape or (None,) * 4
    channels, height, width = (sides[3], sides[1], sides[2]) if pixels else sides[1:4]
    given = known.get("input_size") or (channels or 3, height or 224, width or 224)
    return ExportSpec(
        name=known.get("model", path.stem),
        size=(int(given[1]), int(given[2])),
        channels=int(given[0]),
        precision=known.get("precision", "fp32"),
        classifier=bool(known.get("classifier", True)),
        preprocess=pixels,
        class_names=tuple(map(str, known["class_names"])) if known.get("class_names") else None,
        mean=_per_channel(known.get("mean", IMAGENET_MEAN), given[0]),
        std=_per_channel(known.get("std", IMAGENET_STD), given[0]),
        crop_pct=float(known.get("crop_pct", 0.875)),
        interpolation=known.get("interpolation", "bicubic"),
    )


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if len(found) not in (channels, len(IMAGENET_MEAN)):
        raise ValueError(f"{len(found)} means or deviations for {channels} channels")
    return found if len(found) == channels else (sum(found) / len(found),) * channels


@contextmanager
def _one_line(path: Path, what: str) -> Iterator[None]:
    """Turns what a runtime raises, of classes of its own, into one line: the file, `what`, and the reason."""
    try:
        yield
    except (RecNextError, OSError) as error:
        if path.name in str(error):
            raise
        raise RecNextError(f"{path} {what}: {error}") from error
    except Exception as error:
        raise RecNextError(f"{path} {what}: {first_line(error)}") from error


def _runnable(path: Path, *, trust: bool) -> Target:
    """The target of a file that can be run here.

    Raises:
        RecNextError, MissingExtraError: as `ExportedNetwork`.
    """
    target = target_of_file(path)
    if not path.exists():
        raise RecNextError(f"there is no file {path}")
    if target.runs_code and not trust:
        raise RecNextError(
            f"{path} can run any program when it is opened, as every {target.suffix} file can: --trust (trust=True) "
            "opens one that people you trust have made; .onnx files need none"
        )
    package = target.missing(running=True)
    if package is not None:
        raise MissingExtraError(package, target.extra, f"running {path.name}")
    if not target.runs_here:
        raise RecNextError(f"{path.name} runs on Apple devices only: export another format to run it here")
    return target


def _check_image(path: Path, contents: Contents) -> None:
    if len(contents.inputs) != 1 or len(contents.inputs[0].shape) not in (0, 4):  # 0: TorchScript does not say
        given = listed(contents.inputs) or "nothing"
        raise RecNextError(f"{path} takes {given}: expected one input of images, of 4 dimensions")


def _header_of_report(path: Path) -> dict[str, str]:
    report = path.with_name(f"{path.name}.json")
    if not report.is_file():
        return {}
    try:
        return dict(json.loads(report.read_text(encoding="utf-8"))["header"])
    except (ValueError, KeyError, TypeError):
        raise RecNextError(f"{report} is not the report of an export: remove it, or export again") from None
