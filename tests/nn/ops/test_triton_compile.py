"""The Triton kernels compile for sm_80 and sm_90 without a GPU, and keep their values in registers."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from recnext.nn.ops import kernels, kernels_backward, launch  # noqa: E402

PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
POINTERS = {
    "conv": {"f": "bf16", "y": "fp32", "w": "fp32", "out": "bf16"},
    "down": {"f": "bf16", "w": "fp32", "out": "fp32"},
    "conv_backward": {"g": "bf16", "f": "bf16", "y": "fp32", "w": "fp32", "out": "fp32", "partial": "fp32"},
    "down_backward": {"g": "fp32", "f": "bf16", "rest": "fp32", "w": "fp32", "out": "bf16", "partial": "fp32"},
    "resize_backward": {"g": "fp32", "out": "fp32"},
}


def spilled_bytes(kernel: str, architecture: int, **constants: int | bool) -> int:
    tile = getattr(launch.TUNING, kernel)
    function = getattr(kernels, f"{kernel}_kernel", None) or getattr(kernels_backward, f"{kernel}_kernel")
    names = set(function.arg_names)
    constants = {"CDIV": 16, "K": 5, "R": tile.strip, "BP": tile.elements // 16, "BC": 16, **constants}
    constants = {name: value for name, value in constants.items() if name in names}
    types = {name: f"*{dtype}" for name, dtype in POINTERS[kernel].items()}
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in function.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(function.arg_names) if n in types}
    compiled = triton.compile(
        ASTSource(fn=function, signature=signature, constexprs=constants, attrs=aligned),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": tile.warps},
    )
    assert compiled.asm["cubin"]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(compiled.asm["ptx"])
        file.flush()
        name = re.search(r"\.target (\w+)", compiled.asm["ptx"])[1]
        command = [PTXAS, "-v", f"--gpu-name={name}", file.name, "-o", "/dev/null"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return int(re.search(r"(\d+) bytes spill stores", report)[1])


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "size"), [(80, 3), (90, 5)])
@pytest.mark.parametrize("kernel", list(POINTERS))
def test_compiles_without_spills(kernel: str, architecture: int, size: int) -> None:
    constants = {"MODE": 2, "NEAREST": False, "FIRST": -1, "COUNT": 4, "K": size}
    assert spilled_bytes(kernel, architecture, **constants) == 0


@pytest.mark.slow
def test_compiles_for_odd_widths_and_nearest() -> None:
    assert spilled_bytes("conv", 90, MODE=3) == 0
    assert spilled_bytes("conv", 90, MODE=1) == 0
