"""A signal finds the process well after networks came and went, in whatever order."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = """
import gc, os, signal, sys
import timm, torch
import recnext

model, x = timm.create_model("test_recnext_m").eval(), torch.randn(1, 3, 64, 64)
kept = [recnext.optimize(model, x, backend=sys.argv[1]) for _ in range(3)]
for number in (0, 1, 0):
    del kept[number]
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_sigterm_is_handled_after_networks_were_deleted(backend: str, tmp_path: Path) -> None:
    """OpenVINO left the main thread with a signal stack that was freed; the handler then crashed."""
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, backend],
        capture_output=True,
        text=True,
        env={**os.environ, "RECNEXT_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
