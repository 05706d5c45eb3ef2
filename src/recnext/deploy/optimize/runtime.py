"""A runtime that executes an exported program, and its compiled forms by shape."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, Optional, TypeVar

from torch import Tensor

from .cache import Cache
from .eager import eager_runner
from .network import LOG, Network, Runner, first_line, relative_error
from .precision import TOLERANCE
from .program import SIZES, onnx_program

BATCHES = 4
"""Batch sizes of an image size that get a form of their own; others share one for any batch."""

Value = TypeVar("Value")


class Runtime(ABC):
    """A library that compiles exported programs for the CPU."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]
    """The extra of this package that installs them."""
    precisions: ClassVar[tuple[str, ...]]

    @classmethod
    def missing(cls) -> Optional[str]:
        """The first package that is not installed."""
        return next((package for package in cls.packages if find_spec(package) is None), None)

    @abstractmethod
    def load(self, parts: Mapping[str, bytes], batch: Optional[int], *, precision: str, threads: int) -> Runner:
        """Compiles what `onnx_program` gave, for one batch size or, with None, for any."""


class CompiledForms:
    """Runs a network in a runtime, in a form compiled for the shape at hand.

    The first batch of a new image size costs an export (seconds; kept on disk), a new batch size a compilation.
    Every form is checked on its first batch against the network in PyTorch; where it cannot be made or is not
    equal, that shape runs in PyTorch, and one line says so.

    Args:
        runtime: that compiles.
        network: to run.
        precision: one of the runtime's.
        cache: where programs are kept.
    """

    def __init__(self, runtime: Runtime, network: Network, precision: str, cache: Cache) -> None:
        self.runtime = runtime
        self.network = network
        self.precision = precision
        self.cache = cache
        self._runners: OrderedDict[tuple[Optional[int], ...], Runner] = OrderedDict()
        self._eager: Optional[Runner] = None

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        batch, *image = x.shape
        runner = self._runners.get((batch, *image)) or self._runners.get((None, *image))
        if runner is None:
            return self._first(x)
        return runner(x)

    def release(self) -> None:
        """Drops the forms of other shapes than the example's, and the memory of their maps."""
        example = tuple(self.network.example.shape)
        self._runners = OrderedDict((key, runner) for key, runner in self._runners.items() if key == example)

    def first(self, expected: Sequence[Tensor]) -> Sequence[Tensor]:
        """Compiles for the example and checks it.

        Raises:
            Exception: whatever the exporter or the runtime raises, or ArithmeticError for wrong outputs.
        """
        x = self.network.example
        name, image = self._program_name(x), tuple(x.shape[1:])
        cached = None if image in self.network.programs else self.cache.read(name)
        if cached is not None:
            try:
                outputs = self._checked(x, cached, expected)
            except Exception as error:
                self.cache.discard(name, f"cannot be used ({first_line(error)})")
            else:
                self.network.programs[image] = cached
                return outputs
        return self._checked(x, self._convert(x), expected)

    def _first(self, x: Tensor) -> Sequence[Tensor]:
        """The first batch of a shape."""
        if self._eager is None:
            self._eager = eager_runner(self.network, "fp32")
        expected = self._eager(x)
        if len(x) == 0:
            return expected
        image = tuple(x.shape[1:])
        try:
            parts = self.network.programs.get(image) or self.cache.read(self._program_name(x))
            if parts is None:
                LOG.info("%s: exporting for images of %dx%d", self.runtime.name, *image[1:])
                parts = self._convert(x)
            return self._checked(x, parts, expected)
        except Exception as error:
            LOG.warning(
                "%s: batches of shape %s run in torch: %s", self.runtime.name, tuple(x.shape), first_line(error)
            )
            _keep(self._runners, tuple(x.shape), self._eager, SIZES * (BATCHES + 1))
            return expected

    def _checked(self, x: Tensor, parts: dict[str, bytes], expected: Sequence[Tensor]) -> Sequence[Tensor]:
        image = tuple(x.shape[1:])
        own = sum(key[1:] == image for key in self._runners) < BATCHES
        batch = x.shape[0] if own else None
        runner = self.runtime.load(parts, batch, precision=self.precision, threads=self.network.threads)
        outputs = runner(x)
        error = relative_error(outputs, expected)
        if error > TOLERANCE[self.precision]:
            raise ArithmeticError(f"outputs differ by {error:.1e} of their spread")
        _keep(self._runners, (batch, *image), runner, SIZES * (BATCHES + 1))
        return outputs

    def _convert(self, x: Tensor) -> dict[str, bytes]:
        channels, height, width = x.shape[1:]
        made = (channels, height, width) in self.network.programs
        parts = onnx_program(self.network, (channels, height, width))
        if not made:
            self.cache.write(self._program_name(x), parts)
        return parts

    def _program_name(self, x: Tensor) -> str:
        return f"program-{'x'.join(map(str, x.shape[1:]))}"


def _keep(values: OrderedDict[Any, Value], key: object, value: Value, limit: int) -> None:
    values[key] = value
    values.move_to_end(key)
    while len(values) > limit:
        values.popitem(last=False)
