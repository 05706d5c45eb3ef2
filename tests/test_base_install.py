"""What `pip install recnext` alone can do: in a process that finds no package of an extra, as in a bare environment."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import recnext
from checkpoints.files import network

EXTRAS = {
    "accelerate",
    "av",
    "coremltools",
    "datasets",
    "executorch",
    "fastapi",
    "faster_coco_eval",
    "grpc",
    "jinja2",
    "litert_torch",
    "matplotlib",
    "nncf",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "pandas",
    "prometheus_client",
    "pyarrow",
    "pycocotools",
    "pytorch_grad_cam",
    "scipy",
    "segmentation_models_pytorch",
    "sklearn",
    "starlette",
    "tensorboard",
    "torchmetrics",
    "uvicorn",
    "wandb",
    "webdataset",
}
RUN = (
    "list",
    "info recnext_m0",
    "predict photo.png --checkpoint tiny.safetensors",
    "fuse tiny.safetensors fused.safetensors",
    "convert tiny.safetensors converted.safetensors",
)
REFUSED = {
    "train DATA": "train",
    "eval DATA --checkpoint tiny.safetensors": "train",
    "demo": "train",
    "report runs/mine": "train",
    "erf test_recnext_m --output erf.png": "train",
    "detect train DATA": "train",
    "segment train DATA": "train",
    "serve --checkpoint tiny.safetensors": "serve",
    "export tiny.safetensors --to onnx": "export",
}
SCRIPT = f"""
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout

class Bare:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {EXTRAS} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Bare(finder) if "PathFinder" in repr(finder) else finder for finder in sys.meta_path]
from recnext.cli.main import dispatch

answers = {{}}
for command in sys.argv[1:]:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = dispatch(command.split())
    answers[command] = (status, out.getvalue(), err.getvalue())
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("bare")
    recnext.save(network("test_recnext_m", num_classes=2), folder / "tiny.safetensors", class_names=["a", "b"])
    for name in ("photo.png", "DATA/val/a/photo.png", "DATA/val/b/photo.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.radial_gradient("L").convert("RGB").save(folder / name)
    script = [sys.executable, "-c", SCRIPT, *RUN, *REFUSED]
    return json.loads(subprocess.run(script, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout)


@pytest.mark.parametrize("command", RUN)
def test_runs_without_any_extra(answers: dict[str, Any], command: str):
    status, out, error = answers[command]
    assert (status, error) == (0, "")
    assert out


@pytest.mark.parametrize("command", REFUSED)
def test_a_missing_extra_is_one_line_that_names_it(answers: dict[str, Any], command: str):
    status, _, error = answers[command]
    assert status == 2
    assert error.count("\n") == 1, error
    assert f"pip install 'recnext[{REFUSED[command]}]'" in error
