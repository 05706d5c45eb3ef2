"""PyTorch's own exported program (.pt2): runs wherever PyTorch does, without this package."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch import nn
from torch.export import Dim

from recnext.deploy.optimize.eager import torch_threads
from recnext.deploy.optimize.network import first_line
from recnext.deploy.optimize.quiet import quiet
from recnext.errors import RecNextError

from .preprocess import in_precision, with_preprocess
from .spec import ExportSpec
from .targets import Contents, FileRunner, Port, Target

ONE_PIXEL = 64
"""Sides up to which the smallest map of a network has one of a pixel."""
_HEADER = "recnext.json"  # the extra file in the archive


class TorchProgram(Target):
    """torch.export, saved with its weights."""

    name = "torch"
    suffix = ".pt2"
    packages = ("torch",)
    extra = ""
    precisions = ("fp32", "fp16")
    dynamic = True
    runs_code = True
    norms = ("batch_norm", "_native_batch_norm_legit_no_training")

    def possible(self, spec: ExportSpec) -> ExportSpec:
        """Up to 64 pixels some map has a side of one, which torch.export takes for a constant."""
        return spec if min(spec.size) > ONE_PIXEL else replace(spec, dynamic_size=False)

    def export(self, module: nn.Module, spec: ExportSpec, folder: Path) -> Path:
        path = self.path(spec, folder)
        with quiet():
            program = program_of(with_preprocess(in_precision(module, spec), spec), spec)
            torch.export.save(program, path, extra_files={_HEADER: json.dumps(spec.header())})
        return path

    def load(self, path: Path, *, threads: Optional[int] = None) -> FileRunner:
        return runner_of(_read(path).module(), threads)

    def contents(self, path: Path) -> Contents:
        program = _read(path)
        nodes = {node.name: node for node in program.graph.nodes}
        calls = (str(node.target).split(".") for node in nodes.values() if node.op == "call_function")
        operators = Counter(name for _, name, *_ in filter(lambda parts: len(parts) == 3, calls))  # "aten.relu.default"
        signature = program.graph_signature
        return Contents(
            f"torch.export, torch {torch.__version__.partition('+')[0]}",
            tuple(_port(name, nodes[name]) for name in signature.user_inputs if isinstance(name, str)),
            tuple(_port(name, nodes[name]) for name in signature.user_outputs if isinstance(name, str)),
            dict(operators.most_common()),
        )

    def header(self, path: Path) -> dict[str, str]:
        files = {_HEADER: ""}
        _read(path, files)
        return dict(json.loads(files[_HEADER])) if files[_HEADER] else {}


def program_of(module: nn.Module, spec: ExportSpec) -> torch.export.ExportedProgram:
    """torch.export of a module, with any batch, height and width as far as the spec says."""
    shapes: dict[int, Any] = {}
    size = spec.size
    if spec.dynamic_batch:
        shapes[0] = Dim.DYNAMIC
    if spec.dynamic_size:
        shapes |= dict.fromkeys((1, 2) if spec.preprocess else (2, 3), Dim.DYNAMIC)
        size = (max(size[0], 2 * ONE_PIXEL), max(size[1], 2 * ONE_PIXEL) + 32)
    # A 1 would be taken for a constant, and so would two sides that happen to be equal.
    example = torch.from_numpy(spec.example(2 if spec.dynamic_batch else None, size))
    with torch.no_grad():
        program = torch.export.export(module.eval(), (example,), dynamic_shapes=(shapes,) if shapes else None)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


def runner_of(module: nn.Module, threads: Optional[int]) -> FileRunner:
    """Calls a module with numpy's arrays."""

    def run(x: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode(), torch_threads(threads or torch.get_num_threads()):
            outputs = module(torch.from_numpy(x))
        return [output.float().numpy() for output in ([outputs] if torch.is_tensor(outputs) else outputs)]

    return run


def _read(path: Path, files: Optional[dict[str, Any]] = None) -> torch.export.ExportedProgram:
    with quiet():
        try:
            return torch.export.load(path, extra_files=files)
        except Exception as error:  # a zip file, JSON and pickles: errors of many kinds
            raise RecNextError(f"{path} is not a readable torch.export program: {first_line(error)}") from None


def _port(name: str, node: torch.fx.Node) -> Port:
    value = node.meta["val"]
    sides = (side if isinstance(side, int) else None for side in value.shape)
    return Port(name, str(value.dtype).removeprefix("torch."), tuple(sides))
