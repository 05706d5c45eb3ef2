"""OpenVINO on the CPU, in float32 or, where the processor has it, in bfloat16 or float16."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

import torch
from torch import Tensor

from .network import LOG, Runner
from .runtime import Runtime

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}  # precisions as OpenVINO spells them


def in_own_thread(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Calls what compiles OpenVINO models in a thread of its own.

    OpenVINO gives the thread that compiles a stack for signals, and takes it away with the compiled model, but puts
    back a model's before, which may be gone by then: the next signal, a Ctrl-C or SIGTERM, would end the process.
    A thread that has ended gets no signals.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *args, **options).result()


def compile_model(core: Any, model: Any, **options: Any) -> Any:
    """Compiles a model for the CPU, in a thread of its own."""
    return in_own_thread(core.compile_model, model, "CPU", options)


class OpenVino(Runtime):
    """One stream with all threads, the setting for latency.

    It reads ONNX: from torch.export with any batch, OpenVINO's own converter leaves shape arithmetic in networks
    with attention, which costs them a tenth of their speed.
    """

    name = "openvino"
    packages = ("openvino", "onnx", "onnxscript")
    extra = "openvino"
    precisions = tuple(_HINTS)

    def load(self, parts: Mapping[str, bytes], batch: Optional[int], *, precision: str, threads: int) -> Runner:
        import openvino

        core = openvino.Core()
        model = core.read_model(parts["model.onnx"])
        if batch is not None:
            model.reshape([batch, *list(model.inputs[0].partial_shape)[1:]])
        compiled = compile_model(
            core,
            model,
            PERFORMANCE_HINT="LATENCY",
            NUM_STREAMS=1,
            INFERENCE_NUM_THREADS=threads,
            INFERENCE_PRECISION_HINT=_HINTS[precision],
        )
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != _HINTS[precision]:
            LOG.warning("openvino has no %s on this processor and computes in %s", precision, used)
        request, lock = compiled.create_infer_request(), threading.Lock()
        count = len(compiled.outputs)
        held = torch.empty(0)  # what the request reads; a new input costs it a tenth of a millisecond

        def run(x: Tensor) -> Sequence[Tensor]:
            nonlocal held
            x = x.contiguous()
            with lock:
                if x.data_ptr() != held.data_ptr() or x.shape != held.shape:
                    request.set_input_tensor(openvino.Tensor(x.numpy(), shared_memory=True))
                    held = x
                request.infer()
                # The request writes the next result to the same memory.
                return [torch.from_numpy(request.get_output_tensor(i).data.copy()) for i in range(count)]

        return run
