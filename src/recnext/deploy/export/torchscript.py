"""TorchScript (.pt), the form published fused weights have; torch itself has moved on to torch.export."""

import json
from collections import Counter
from pathlib import Path
from typing import Optional

import torch
from torch import nn

from recnext.deploy.optimize.quiet import quiet
from recnext.errors import RecNextError

from .preprocess import with_preprocess
from .spec import ExportSpec
from .targets import Contents, FileRunner, Port, Target
from .torch_program import runner_of

_HEADER = "recnext.json"


class TorchScript(Target):
    """A trace. The sizes of the maps follow the image's; the order of the attention's products is the example's."""

    name = "torchscript"
    suffix = ".pt"
    packages = ("torch",)
    extra = ""
    dynamic = True
    runs_code = True
    norms = ("batch_norm",)

    def export(self, module: nn.Module, spec: ExportSpec, folder: Path) -> Path:
        path = self.path(spec, folder)
        example = torch.from_numpy(spec.example(2 if spec.dynamic_batch else None))
        with quiet(), torch.no_grad():
            traced = torch.jit.trace(with_preprocess(module, spec), example, check_trace=False)
            traced.save(str(path), _extra_files={_HEADER: json.dumps(spec.header())})
        return path

    def load(self, path: Path, *, threads: Optional[int] = None) -> FileRunner:
        return runner_of(_read(path), threads)

    def contents(self, path: Path) -> Contents:
        graph = _read(path).inlined_graph
        kinds = (node.kind() for node in graph.nodes())
        operators = Counter(kind.removeprefix("aten::") for kind in kinds if kind.startswith("aten::"))
        header = self.header(path)
        pixels = header.get("recnext.preprocess") == "true"
        names = json.loads(header.get("recnext.outputs", "[]"))
        return Contents(
            f"TorchScript, torch {torch.__version__.partition('+')[0]}",
            (Port("pixels" if pixels else "image", "uint8" if pixels else "float32", ()),),
            tuple(Port(name, "float32", ()) for name in names),
            dict(operators.most_common()),
        )

    def header(self, path: Path) -> dict[str, str]:
        files = {_HEADER: ""}
        _read(path, files)
        return dict(json.loads(files[_HEADER])) if files[_HEADER] else {}


def _read(path: Path, files: Optional[dict[str, str]] = None) -> torch.jit.ScriptModule:
    with quiet():
        try:
            return torch.jit.load(str(path), map_location="cpu", _extra_files=files).eval()
        except RuntimeError as error:
            raise RecNextError(f"{path} is not a readable TorchScript file: {str(error).splitlines()[0]}") from None
