"""OpenVINO on the CPU, in float32 or, where the processor has it, in bfloat16 or float16."""

import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor
from torch.export import ExportedProgram

from .export import quiet
from .network import LOG, Runner
from .runtime import Runtime

_FILES = ("model.xml", "model.bin")


class OpenVino(Runtime):
    """One stream with all threads, the setting for latency."""

    name = "openvino"
    packages = ("openvino",)
    extra = "openvino"
    precisions = ("f32", "bf16", "f16")

    def convert(self, program: ExportedProgram) -> dict[str, bytes]:
        import openvino

        with quiet(), tempfile.TemporaryDirectory() as folder:
            model = openvino.convert_model(program)
            openvino.save_model(model, Path(folder, _FILES[0]), compress_to_fp16=False)
            return {name: Path(folder, name).read_bytes() for name in _FILES}

    def load(self, parts: Mapping[str, bytes], batch: Optional[int], *, precision: str, threads: int) -> Runner:
        import openvino

        core = openvino.Core()
        model = core.read_model(parts[_FILES[0]], parts[_FILES[1]])
        if batch is not None:
            model.reshape([batch, *list(model.inputs[0].partial_shape)[1:]])
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": 1,
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": precision,
            },
        )
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != precision:
            LOG.warning("openvino has no %s on this processor and computes in %s", precision, used)
        request, lock = compiled.create_infer_request(), threading.Lock()
        count = len(compiled.outputs)

        def run(x: Tensor) -> Sequence[Tensor]:
            with lock:
                request.set_input_tensor(openvino.Tensor(x.contiguous().numpy(), shared_memory=True))
                request.infer()
                # The request writes the next result to the same memory.
                return [torch.from_numpy(request.get_output_tensor(i).data.copy()) for i in range(count)]

        return run
