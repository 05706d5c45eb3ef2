"""Forward and backward of the Triton kernels on the CPU, in Triton's interpreter, against float64 autograd."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

TOLERANCE = {"float32": 1e-6, "bfloat16": 1e-2, "float16": 2e-3}
GROUPS = [
    ("level 0", "even", "pixels", "bfloat16"),
    ("odd", "seven nearest", "float16"),
    ("nearest", "tall", "level 5"),
]


@pytest.mark.slow
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_equals_autograd_of_the_plain_form(names: tuple[str, ...]) -> None:
    # Triton decides when it is imported whether kernels are interpreted: a process of its own.
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    seed = str(int.from_bytes(os.urandom(3), "big"))
    command = [sys.executable, "-m", "nn.ops.triton_checks", seed, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report) == list(names)
    for name, errors in report.items():
        limit = TOLERANCE[name if name in TOLERANCE else "float32"]
        assert all(value < limit for value in errors.values()), f"seed {seed}: {name}: {errors}"
