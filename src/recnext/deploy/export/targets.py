"""The formats a network can be exported to: what each has to offer, and which there are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Optional

import numpy as np
from torch import nn

from recnext.errors import MissingExtraError, RecNextError

from .spec import ExportSpec

FileRunner = Callable[[np.ndarray], list[np.ndarray]]
"""Maps an input, as the file wants it, to its outputs in float32."""


@dataclass(frozen=True)
class Port:
    """An input or output of a file."""

    name: str
    dtype: str
    shape: tuple[Optional[int], ...]
    """None where any number goes."""


@dataclass(frozen=True)
class Contents:
    """What a file holds, read from the file itself."""

    format: str
    """And its version, such as "ONNX opset 20"."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: dict[str, int]
    """How many of each, as the format calls them."""


class Target(ABC):
    """A format. A subclass lives in a module of its own and imports its packages inside its methods."""

    name: ClassVar[str]
    """On the command line."""
    runtime: ClassVar[str] = ""
    """What runs its files here; empty where that has the same name."""
    suffix: ClassVar[str]
    """Of the main file or folder."""
    packages: ClassVar[tuple[str, ...]]
    """Import names, for an export; the first that is missing is reported."""
    packages_to_run: ClassVar[Optional[tuple[str, ...]]] = None
    """Those of them that running a file asks for; None for all."""
    extra: ClassVar[str]
    """The extra of this package that installs them."""
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    dynamic: ClassVar[bool] = False
    """Whether a file can take any batch, height and width; otherwise it takes the spec's only."""
    choices: ClassVar[tuple[str, ...]] = ()
    """Fields of `ExportSpec` that are for this format, and not for all."""
    calibrated: ClassVar[bool] = True
    """Whether int8 needs images."""
    norms: ClassVar[tuple[str, ...]] = ("BatchNormalization",)
    """Names that BatchNorms have among its operators."""
    runs_code: ClassVar[bool] = False
    """Whether a file may run any program while it is opened."""
    runs_here: ClassVar[bool] = True
    """Whether files can be used on this machine, and not only be checked."""

    @classmethod
    def missing(cls, *, running: bool = False) -> Optional[str]:
        """The first package that is not installed, of those that an export needs, or running a file."""
        needed = cls.packages if not running or cls.packages_to_run is None else cls.packages_to_run
        return next((package for package in needed if find_spec(package) is None), None)

    @classmethod
    def require(cls) -> None:
        """Raises MissingExtraError where a package is not installed."""
        package = cls.missing()
        if package is not None:
            raise MissingExtraError(package, cls.extra, f"export to {cls.name}")

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Of its packages, as installed."""
        found = {}
        for package in ("torch", *cls.packages):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        return found

    def possible(self, spec: ExportSpec) -> ExportSpec:
        """The spec with no more freedom of batch and size than this format has."""
        return spec if self.dynamic else replace(spec, dynamic_batch=False, dynamic_size=False)

    def check(self, spec: ExportSpec) -> None:
        """Raises RecNextError for what this format cannot do; called before any work."""
        self.check_precisions([spec.precision])
        if spec.precision == "int8" and self.calibrated and not len(spec.calibration):
            raise RecNextError(f"int8 for {self.name} needs images to calibrate on: add --calibrate FOLDER")

    def check_precisions(self, precisions: Sequence[str]) -> None:
        """Raises RecNextError for one that this format does not have."""
        for precision in precisions:
            if precision not in self.precisions:
                raise RecNextError(f"{self.name} has no {precision}: it has {', '.join(self.precisions)}")

    def path(self, spec: ExportSpec, folder: Path) -> Path:
        """The main file's place."""
        return folder / f"{spec.stem}{self.suffix}"

    @abstractmethod
    def export(self, module: nn.Module, spec: ExportSpec, folder: Path) -> Path:
        """Writes the file, and others that belong to it, into an empty folder.

        Args:
            module: fused, in eval mode, in float32, without gradients; normalised (N, C, H, W) to a tensor or a
                tuple of them. `recnext.deploy.export.preprocess.with_preprocess` wraps it as the spec says, where the
                format has no way of its own. It may be changed.
            spec: that `check` has passed.
            folder: to write into; the main file is `path`, others have its stem.

        Returns:
            The main file.
        """

    @abstractmethod
    def load(self, path: Path, *, threads: Optional[int] = None) -> FileRunner:
        """Opens a file to run it here, or to evaluate it as well as can be.

        Args:
            path: the main file.
            threads: CPU threads; by default the runtime's choice.
        """

    @abstractmethod
    def contents(self, path: Path) -> Contents:
        """Reads what the file holds."""

    def open_made(self, path: Path, spec: ExportSpec, *, threads: Optional[int]) -> tuple[FileRunner, Contents]:
        """Opens a file that `export` has just made of a spec, for its proof."""
        return self.load(path, threads=threads), self.contents(path)

    def unproved(self, spec: ExportSpec) -> str:
        """What the proof of such a file does not cover, as in "program checked, not run on Apple hardware"."""
        return ""

    def header(self, path: Path) -> dict[str, str]:
        """What `ExportSpec.header` put into the file; empty where the format has no place for it."""
        return {}


# name -> module here, class in it; imported when asked for
_TARGETS = {
    "torch": ("torch_program", "TorchProgram"),
    "torchscript": ("torchscript", "TorchScript"),
    "onnx": ("onnx_file", "Onnx"),
    "openvino": ("openvino_file", "OpenVinoFile"),
    "coreml": ("coreml", "CoreMl"),
    "executorch": ("executorch", "ExecuTorch"),
    "litert": ("litert", "LiteRt"),
}
TARGETS = tuple(_TARGETS)
_SUFFIXES = {
    ".pt2": "torch",
    ".onnx": "onnx",
    ".xml": "openvino",
    ".mlpackage": "coreml",
    ".pte": "executorch",
    ".tflite": "litert",
}
SUFFIXES = tuple(_SUFFIXES)
"""Of files that can be run; TorchScript files are checkpoints."""


def target(name: str) -> Target:
    """The target of a name.

    Raises:
        RecNextError: there is none.
    """
    if name not in _TARGETS:
        close = get_close_matches(name, TARGETS, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise RecNextError(f"no export target is called {name!r}: {hint}There are {', '.join(TARGETS)}")
    module, kind = _TARGETS[name]
    made: Target = getattr(import_module(f"{__package__}.{module}"), kind)()
    return made


def target_of_file(path: Path) -> Target:
    """The target that a file belongs to, by its suffix.

    Raises:
        RecNextError: none.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise RecNextError(f"{path} is no exported network: expected a name ending in {', '.join(SUFFIXES)}")
    return target(_SUFFIXES[path.suffix.lower()])


def targets(names: Sequence[str]) -> list[Target]:
    """Targets by name, each once.

    Raises:
        RecNextError: there is none of a name, or no name.
    """
    if not names:
        raise RecNextError(f"no export target is given: there are {', '.join(TARGETS)}")
    return [target(name) for name in dict.fromkeys(names)]
