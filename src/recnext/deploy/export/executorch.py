"""ExecuTorch (.pte): PyTorch's runtime for phones, with XNNPACK on the CPU or Core ML on Apple devices."""

import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor, nn

from recnext.deploy.optimize.network import first_line
from recnext.deploy.optimize.quiet import silent
from recnext.errors import RecNextError
from recnext.nn.mixers import RecConv2d

from .coreml import UNPROVED, half_precision
from .coreml_evaluator import CoreMlProgram
from .integer_factors import IntegerFactors
from .preprocess import InHalf, with_preprocess
from .spec import ExportSpec
from .targets import Contents, FileRunner, Port, Target

DELEGATES = ("xnnpack", "coreml")
_HEADER = "recnext_header"  # a method of the program that gives the header as JSON
_CORE_ML = "CoreMLBackend"


class ExecuTorch(Target):
    """A program of fixed batch and size, its memory planned ahead.

    What XNNPACK has no kernel for runs in ExecuTorch's portable ones. fp16 with XNNPACK computes in float16, but for
    the levels of RecConv and the sums of the attention, and needs a processor with float16 arithmetic; inputs,
    outputs and the weights in the file stay float32. With the delegate "coreml" the network is one Core ML
    program inside the file. It runs on Apple devices only; the proof evaluates it.
    """

    name = "executorch"
    suffix = ".pte"
    packages = ("executorch",)
    extra = "executorch"
    choices = ("delegate",)
    precisions = ("fp32", "fp16")
    norms = ("aten::_native_batch_norm_legit_no_training.out", "aten::native_batch_norm.out", "batch_norm")

    def path(self, spec: ExportSpec, folder: Path) -> Path:
        return folder / f"{spec.stem}{'_coreml' if spec.delegate == 'coreml' else ''}{self.suffix}"

    def unproved(self, spec: ExportSpec) -> str:
        return UNPROVED if spec.delegate == "coreml" else ""

    def check(self, spec: ExportSpec) -> None:
        super().check(spec)
        if spec.delegate not in DELEGATES:
            raise RecNextError(f"delegate={spec.delegate!r} must be {' or '.join(DELEGATES)}")
        if spec.delegate == "coreml" and spec.preprocess:
            raise RecNextError("Core ML in executorch takes no uint8 pixels: no preprocess, or the target coreml")

    def export(self, module: nn.Module, spec: ExportSpec, folder: Path) -> Path:
        apple, half = spec.delegate == "coreml", spec.precision == "fp16"
        with silent():
            from executorch.exir import to_edge_transform_and_lower

            network = with_preprocess(HalfButRecConv(module) if half and not apple else module, spec)
            factors = IntegerFactors() if apple else contextlib.nullcontext()
            with factors, torch.no_grad():
                program = torch.export.export(network.eval(), (torch.from_numpy(spec.example()),))
            with _sums_in_single() if apple and half else contextlib.nullcontext():
                lowered = to_edge_transform_and_lower(
                    program,
                    partitioner=[_core_ml(half) if apple else _xnnpack()],
                    constant_methods={_HEADER: json.dumps(spec.header())},
                )
            data = lowered.to_executorch().buffer
        path = self.path(spec, folder)
        path.write_bytes(data)
        return path

    def load(self, path: Path, *, threads: Optional[int] = None) -> FileRunner:
        self.require()
        if _CORE_ML in {backend for backend, _ in _delegates(_program(path))}:
            raise RecNextError(
                f"{path.name} runs on Apple devices only, by Core ML: export with --delegate xnnpack to run it here"
            )
        return _executed(path, threads)

    def open_made(self, path: Path, spec: ExportSpec, *, threads: Optional[int]) -> tuple[FileRunner, Contents]:
        """Evaluates the Core ML program inside; it is unpacked of our own files only, for others may write anywhere."""
        if spec.delegate != "coreml":
            return super().open_made(path, spec, threads=threads)
        program, contents = _core_ml_inside(path), self.contents(path)
        (name,) = program.inputs

        def run(x: np.ndarray) -> list[np.ndarray]:
            return list(program(**{name: x}).values())

        return run, replace(contents, operators={**contents.operators, **program.operators})

    def contents(self, path: Path) -> Contents:
        self.require()
        program = _program(path)
        plan = _forward(program)
        operators: Counter[str] = Counter()
        for instruction in plan.chains[0].instructions:
            call = instruction.instr_args
            if hasattr(call, "op_index"):
                operator = plan.operators[call.op_index]
                operators[f"{operator.name}.{operator.overload}" if operator.overload else operator.name] += 1
            elif hasattr(call, "delegate_index"):
                operators[f"{plan.delegates[call.delegate_index].id} part"] += 1
        return Contents(
            f"ExecuTorch program, version {program.version}",
            tuple(_port(f"input_{i}", plan.values[value].val) for i, value in enumerate(plan.inputs)),
            tuple(_port(f"output_{i}", plan.values[value].val) for i, value in enumerate(plan.outputs)),
            dict(operators.most_common()),
        )

    def header(self, path: Path) -> dict[str, str]:
        self.require()
        _program(path)
        with silent():
            program = _loaded(path)
            if _HEADER not in program.method_names:
                return {}
            (text,) = program.load_method(_HEADER).execute([])
        return dict(json.loads(text))


class HalfButRecConv(InHalf):
    """Float16 but for RecConv, whose weights stay in float32 too: XNNPACK takes no weights that are converted."""

    def __init__(self, network: nn.Module) -> None:
        kept = [
            (parent, name, deepcopy(child))
            for parent in network.modules()
            for name, child in parent.named_children()
            if isinstance(child, RecConv2d)
        ]
        super().__init__(network)
        for parent, name, child in kept:
            setattr(parent, name, _Float32(child))


class _Float32(nn.Module):
    """A module in float32 within a network in float16."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.float()).to(x.dtype)


def _xnnpack() -> Any:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return XnnpackPartitioner()


def _core_ml(half: bool) -> Any:
    import coremltools as ct
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    settings = CoreMLBackend.generate_compile_specs(
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS16,
    )
    return CoreMLPartitioner(compile_specs=settings)


@contextlib.contextmanager
def _sums_in_single() -> Iterator[None]:
    """The delegate's float16 as the target coreml has it.

    ExecuTorch hands the converter one precision for all operations, and has no setting to name exceptions.
    """
    from executorch.backends.apple.coreml.compiler import CoreMLBackend

    name = "model_compute_precision_from_compile_specs"
    own = vars(CoreMLBackend).get(name)
    if own is None:
        raise RecNextError("this ExecuTorch cannot keep sums in float32: --precision fp32, or install executorch 1.5")
    setattr(CoreMLBackend, name, staticmethod(lambda compile_specs: half_precision()))
    try:
        yield
    finally:
        setattr(CoreMLBackend, name, own)


def _executed(path: Path, threads: Optional[int]) -> FileRunner:
    with silent():
        from executorch.extension.pybindings import portable_lib

        set_threads = getattr(portable_lib, "_unsafe_reset_threadpool", None)  # a later one may have no such function
        if threads is not None and set_threads is not None:
            set_threads(threads)
        try:
            method = _loaded(path).load_method("forward")
        except RuntimeError as error:  # a kernel or delegate that this runtime lacks
            raise RecNextError(f"{path} cannot be run by this ExecuTorch: {first_line(error)}") from None
    assert method is not None

    def run(x: np.ndarray) -> list[np.ndarray]:
        try:
            outputs = method.execute([torch.from_numpy(np.ascontiguousarray(x))])
        except RuntimeError as error:
            raise RecNextError(f"{path.name} takes no input {tuple(x.shape)}: {first_line(error)}") from None
        return [output.float().numpy().copy() for output in outputs]

    return run


def _loaded(path: Path) -> Any:
    """In the runtime."""
    from executorch.runtime import Runtime

    try:
        return Runtime.get().load_program(path)
    except RuntimeError as error:
        raise RecNextError(f"{path} is not a readable ExecuTorch program: {first_line(error)}") from None


def _core_ml_inside(path: Path) -> CoreMlProgram:
    """The Core ML program of a file; Apple's runtime is not here to run it."""
    from executorch.backends.apple.coreml import executorchcoreml

    program = _program(path)
    delegates = _delegates(program)
    if len(delegates) != 1 or len(_forward(program).chains[0].instructions) != 1:
        raise RecNextError(f"{path}: parts of the network are outside of Core ML; it can only be run on Apple devices")
    with silent(), tempfile.TemporaryDirectory() as folder:
        executorchcoreml.unflatten_directory_contents(delegates[0][1], folder)
        package = next(Path(folder).rglob("*.mlpackage"), None)
        if package is None:
            raise RecNextError(f"{path} holds no readable Core ML program")
        return CoreMlProgram(package)


def _program(path: Path) -> Any:
    with silent():
        try:  # there is no public way to read a program's operators
            from executorch.exir._serialize._program import deserialize_pte_binary
        except ImportError:
            raise RecNextError(f"{path.name}: this ExecuTorch cannot read programs: install executorch 1.5") from None
        try:
            program = deserialize_pte_binary(path.read_bytes()).program
        except OSError:
            raise
        except Exception as error:  # flatbuffers, asserts
            raise RecNextError(f"{path} is not a readable ExecuTorch program: {first_line(error)}") from None
    if all(plan.name != "forward" for plan in program.execution_plan):
        names = ", ".join(plan.name for plan in program.execution_plan) or "none"
        raise RecNextError(f"{path} has no method forward, but {names}: it is no network that this package can run")
    return program


def _forward(program: Any) -> Any:
    return next(plan for plan in program.execution_plan if plan.name == "forward")


def _delegates(program: Any) -> list[tuple[str, bytes]]:
    """Backend and data of every part that is delegated."""
    return [
        (part.id, bytes(program.backend_delegate_data[part.processed.index].data))
        for part in _forward(program).delegates
    ]


def _port(name: str, tensor: Any) -> Port:
    kind = tensor.scalar_type.name.lower()
    return Port(name, {"float": "float32", "half": "float16", "byte": "uint8"}.get(kind, kind), tuple(tensor.sizes))
