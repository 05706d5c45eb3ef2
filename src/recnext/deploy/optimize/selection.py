"""`recnext.optimize`: the fastest way to run a network on this machine, by a short measured trial."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Optional

import torch
from torch import Tensor, nn

from recnext._version import __version__
from recnext.errors import MissingExtraError, RecNextError
from recnext.precision import FLOATS, parse_precision

from .cache import Cache, cache_folder, fingerprint, processor
from .eager import can_compile, compiled_runner, eager_runner
from .network import LOG, Network, Runner, first_line, prepare, relative_error, restore, run
from .onnx_runtime import OnnxRuntime
from .open_vino import OpenVino
from .precision import TOLERANCE, native_precisions, wanted_precisions
from .runtime import CompiledForms, Runtime
from .trial import interleaved

RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (OpenVino(), OnnxRuntime())}
BACKENDS = (*RUNTIMES, "compile", "torch")


@dataclass(frozen=True)
class Trial:
    """One backend and precision that was considered."""

    backend: str
    precision: str
    milliseconds: Optional[float] = None
    """Median of one call on the example; None if it was not timed."""
    error: Optional[float] = None
    """Largest difference from the original's outputs over their spread."""
    note: str = ""
    """Why it was dropped, or empty."""


class Optimized:
    """A network in its fastest form, made by `recnext.optimize`.

    Call it with (N, C, H, W) floating-point images on the example's device, any N. It returns what the network
    does, in float32, without gradients.
    """

    backend: str
    """"torch", "compile", "onnxruntime" or "openvino"."""
    precision: str
    """"fp32", "bf16" or "fp16"."""
    threads: int
    report: list[Trial]
    """Everything that was considered, the fastest first."""
    reason: str
    """What was picked and why, in one line."""

    def __init__(self, network: Network, runner: Runner, trials: Sequence[Trial], reason: str) -> None:
        self.backend, self.precision = trials[0].backend, trials[0].precision
        self.threads = network.threads
        self.report = list(trials)
        self.reason = reason
        self._runner = runner
        self._kind = network.kind
        self._device = network.device
        self._channels = network.example.shape[1]

    def __call__(self, x: Tensor) -> Any:
        """Runs a batch.

        Raises:
            RecNextError: not a float batch with the example's channels, on its device.
        """
        if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point() or x.shape[1] != self._channels:
            what = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise RecNextError(f"optimized model: input is {what}; expected floats (N, {self._channels}, H, W)")
        if x.device.type != self._device.type:
            raise RecNextError(f"optimized model: input is on {x.device}; it was optimised for {self._device}")
        return restore(run(self._runner, x.detach().float(), "an input"), self._kind)

    def release(self) -> None:
        """Frees the memory of forms that were compiled for other shapes than the example's."""
        if isinstance(self._runner, CompiledForms):
            self._runner.release()

    def __repr__(self) -> str:
        return f"Optimized({self.reason})"


def optimize(
    model: nn.Module,
    example_input: Tensor,
    *,
    backend: str = "auto",
    precision: str = "auto",
    threads: Optional[int] = None,
) -> Optimized:
    """The network in its fastest form on this machine: fused, in the runtime that a short trial shows to be fastest.

    Outputs equal the original's: within 1e-4 of their spread in float32 (0.1 in bf16, 0.02 in fp16), or the
    backend is dropped. Any batch size runs, and any image size: the first batch of a new size is compiled for
    (seconds). Compiled forms and the choice are kept on disk, in $RECNEXT_CACHE ("off": nowhere) or the
    platform's folder for caches, by weights, shapes, versions and processor.

    Args:
        model: an image network, ours or not, that returns a tensor or a list or tuple of them. It stays as it is.
        example_input: (N, C, H, W) float, of the size and batch to be fast at, on the device to compute on.
        backend: "torch" (fused, channels_last), "compile" (torch.compile), "onnxruntime", "openvino", or "auto":
            the fastest of those installed. "auto" tries torch.compile only where no runtime is installed.
        precision: "fp32", "bf16", "fp16", or "auto": also bf16 (fp16 on GPUs without it) where the hardware has it.
        threads: CPU threads; by default torch's.

    Returns:
        A callable, tensor in, tensors out, with attributes `backend`, `precision`, `threads`, `report`, `reason`.

    Raises:
        RecNextError: a bad argument, or the backend asked for cannot run this model.
        MissingExtraError: the backend asked for is not installed.
    """
    network = prepare(model, example_input, torch.get_num_threads() if threads is None else threads)
    candidates, absent = _candidates(backend, precision, network.device)
    cache = Cache(_key(model), cache_folder())
    name = f"choice-{backend}-{precision}-{network.threads}-{'x'.join(map(str, example_input.shape))}"
    remembered = _remembered(cache, name) if len(candidates) > 1 else None
    if remembered is not None and (remembered[0].backend, remembered[0].precision) in candidates:
        first = (remembered[0].backend, remembered[0].precision)
        runner, trial = _attempt(*first, network, cache)
        if runner is not None:
            return Optimized(network, runner, remembered, f"{_sentence(remembered, network.threads)}; remembered")
        LOG.warning("optimize: %s %s, chosen before, is dropped: %s", *first, trial.note)
    runners, trials = _try_all(candidates, network, cache, required=backend != "auto")
    trials = _timed(trials, runners, network.example)
    reason = _sentence(trials, network.threads)
    if absent:
        reason += f"; not installed: {', '.join(absent)}"
    LOG.info("optimize: %s", reason)
    if len(candidates) > 1:
        cache.write(name, {"trials": json.dumps([asdict(trial) for trial in trials]).encode()})
    return Optimized(network, runners[trials[0].backend, trials[0].precision], trials, reason)


def _try_all(
    candidates: Sequence[tuple[str, str]], network: Network, cache: Cache, *, required: bool
) -> tuple[dict[tuple[str, str], Runner], list[Trial]]:
    """The runners of those backends and precisions that compute what the network does, and what was found of all.

    Raises:
        RecNextError: none does, or one that is `required` does not.
    """
    runners: dict[tuple[str, str], Runner] = {}
    trials: list[Trial] = []
    for candidate in candidates:
        found, trial = _attempt(*candidate, network, cache)
        trials.append(trial)
        if found is not None:
            runners[candidate] = found
        elif required:
            raise RecNextError(f"optimize: {candidate[0]} in {candidate[1]} cannot run this model: {trial.note}")
        else:
            LOG.warning("optimize: %s %s is dropped: %s", *candidate, trial.note)
    if not runners:
        raise RecNextError(f"optimize: no backend runs this model: {'; '.join(trial.note for trial in trials)}")
    return runners, trials


def forward_for(
    model: nn.Module,
    example_input: Tensor,
    *,
    backend: str = "torch",
    precision: str = "auto",
    threads: Optional[int] = None,
) -> Any:
    """What a long job calls in place of a model: the model itself for plain "torch", else `optimize`'s result."""
    if backend == "torch" and parse_precision(precision) in ("auto", "fp32") and threads is None:
        return model.eval()
    return optimize(model, example_input, backend=backend, precision=precision, threads=threads)


def _candidates(backend: str, precision: str, device: torch.device) -> tuple[list[tuple[str, str]], list[str]]:
    """Pairs of backend and precision to try, and the runtimes that are not installed."""
    if backend != "auto" and backend not in BACKENDS:
        raise RecNextError(f"backend={backend!r} must be auto, {', '.join(BACKENDS)}")
    precisions = wanted_precisions(precision, device)
    runtimes = RUNTIMES if device.type == "cpu" else {}
    absent = [name for name, runtime in runtimes.items() if runtime.missing()]
    if backend == "auto":
        backends = [name for name in runtimes if name not in absent]
        if not backends and can_compile(device):
            backends.append("compile")
        backends.append("torch")
    else:
        if backend in RUNTIMES:
            package = RUNTIMES[backend].missing()
            if package is not None:
                raise MissingExtraError(package, RUNTIMES[backend].extra, f"backend {backend!r}")
            if backend not in runtimes:
                raise RecNextError(f"backend={backend!r} runs on the CPU; example_input is on {device}")
        backends, absent = [backend], []
    pairs = [(name, kind) for name in backends for kind in precisions if kind in _precisions_of(name)]
    if not pairs:
        raise RecNextError(
            f"backend={backend!r} has no precision {precision}; it has {', '.join(_precisions_of(backend))}"
        )
    return pairs, absent


def _precisions_of(backend: str) -> tuple[str, ...]:
    return RUNTIMES[backend].precisions if backend in RUNTIMES else FLOATS


def _attempt(backend: str, precision: str, network: Network, cache: Cache) -> tuple[Optional[Runner], Trial]:
    """Builds a runner and checks it on the example; None, with the reason noted, where that fails."""
    runner: Runner
    try:
        if backend in RUNTIMES:
            forms = CompiledForms(RUNTIMES[backend], network, precision, cache)
            runner, outputs = forms, forms.first(network.expected)
        else:
            runner = (compiled_runner if backend == "compile" else eager_runner)(network, precision)
            outputs = runner(network.example)
        difference = relative_error(outputs, network.expected)
        if difference > TOLERANCE[precision]:
            raise ArithmeticError(f"outputs differ by {difference:.1e} of their spread")
    except Exception as error:  # an exporter or a runtime may raise anything
        return None, Trial(backend, precision, note=first_line(error))
    return runner, Trial(backend, precision, error=difference)


def _timed(trials: Sequence[Trial], runners: dict[tuple[str, str], Runner], x: Tensor) -> list[Trial]:
    """The trials with times, the fastest first; a lone runner needs none."""
    milliseconds: dict[tuple[str, str], float] = {}
    if len(runners) > 1:
        calls = {f"{backend} {kind}": partial(_finished, runner, x) for (backend, kind), runner in runners.items()}
        times = interleaved(calls)
        milliseconds = {key: 1e3 * times[" ".join(key)].median for key in runners}
    filled = [replace(trial, milliseconds=milliseconds.get((trial.backend, trial.precision))) for trial in trials]
    return sorted(filled, key=lambda trial: (bool(trial.note), trial.milliseconds or 0.0))


def _finished(runner: Runner, x: Tensor) -> None:
    runner(x)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)


def _sentence(trials: Sequence[Trial], threads: int) -> str:
    first, *others = trials
    timed = [trial for trial in others if trial.milliseconds is not None]
    sentence = f"{first.backend} {first.precision}"
    if first.milliseconds is not None:
        sentence += f", {first.milliseconds:.3g} ms"
    if timed:
        beaten = ", ".join(f"{trial.milliseconds:.3g} in {trial.backend} {trial.precision}" for trial in timed)
        sentence += f" against {beaten}"
    return f"{sentence}; {threads} threads"


def _remembered(cache: Cache, name: str) -> Optional[list[Trial]]:
    stored = cache.read(name)
    if stored is None:
        return None
    try:
        return [Trial(**trial) for trial in json.loads(stored["trials"])]
    except (KeyError, TypeError, ValueError):
        cache.discard(name, "is of another version")
        return None


def _key(model: nn.Module) -> str:
    packages = {package for runtime in RUNTIMES.values() for package in runtime.packages}
    versions = [f"{package} {_version(package)}" for package in sorted({"torch", "timm", *packages})]
    native = native_precisions(torch.device("cpu"))
    return fingerprint(model, [__version__, *versions, processor(), torch.backends.cpu.get_cpu_capability(), native])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
