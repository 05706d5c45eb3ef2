"""ONNX Runtime on the CPU."""

from collections.abc import Mapping, Sequence
from typing import Optional

import torch
from torch import Tensor

from .network import Runner
from .onnx_rewriting import rewrite
from .runtime import Runtime


class OnnxRuntime(Runtime):
    """Convolutions in blocked layout (NCHWc); static shapes, so that the graph holds no shape arithmetic."""

    name = "onnxruntime"
    packages = ("onnxruntime", "onnx", "onnxscript")
    extra = "onnx"
    precisions = ("fp32",)

    def load(self, parts: Mapping[str, bytes], batch: Optional[int], *, precision: str, threads: int) -> Runner:
        import onnx
        import onnxruntime

        proto = rewrite(onnx.load_from_string(parts["model.onnx"]))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads wait actively within a run only, and leave the processor to others between runs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if batch is not None:
            options.add_free_dimension_override_by_name(parts["batch"].decode(), batch)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def run(x: Tensor) -> Sequence[Tensor]:
            return [torch.from_numpy(output) for output in session.run(None, {name: x.contiguous().numpy()})]

        return run
