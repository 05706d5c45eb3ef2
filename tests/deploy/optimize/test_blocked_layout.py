"""Convolutions by one: inserted where they keep ONNX Runtime in blocks, without a change of any value."""

import numpy as np
import pytest
import timm
import torch

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from recnext.deploy.optimize.blocked_layout import keep_blocked  # noqa: E402
from recnext.deploy.optimize.export import onnx_program  # noqa: E402
from recnext.deploy.optimize.network import prepare  # noqa: E402


def program(reader, channels=32):
    """x (2, C, 6) as a map (2, C, 2, 3), which `reader` reads."""
    shape = [2, channels, 2, 3]
    weight = np.random.default_rng(0).normal(size=(channels, channels, 1, 1)).astype(np.float32)
    constants = {"shape": np.array(shape), "w": weight, "b": np.ones((1, channels, 1, 1), np.float32)}
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["map"])]
    nodes += {
        "conv": [helper.make_node("Conv", ["map", "w"], ["y"])],
        "sum": [helper.make_node("Conv", ["z", "w"], ["c"]), helper.make_node("Add", ["map", "c"], ["y"])],
        "constant": [helper.make_node("Add", ["map", "b"], ["y"])],
        "twice": [helper.make_node("Add", ["map", "map"], ["y"])],
        "other": [helper.make_node("Relu", ["map"], ["y"])],
    }[reader]
    inputs = {"x": [2, channels, 6], "z": shape}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()]
    graph = helper.make_graph(
        nodes,
        "reshaped",
        values,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def run(proto, feed):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {value.name: feed[value.name] for value in session.get_inputs()})[0]


@pytest.mark.parametrize(
    ("reader", "channels", "count"),
    [("conv", 32, 1), ("sum", 32, 1), ("constant", 32, 0), ("twice", 32, 0), ("other", 32, 0), ("conv", 24, 0)],
)
def test_reshaped_maps(reader, channels, count):
    rng = np.random.default_rng(1)
    feed = {
        "x": rng.normal(size=(2, channels, 6)).astype(np.float32),
        "z": rng.normal(size=(2, channels, 2, 3)).astype(np.float32),
    }
    proto = program(reader, channels)
    expected = run(proto, feed)
    assert keep_blocked(proto) == count
    onnx.checker.check_model(proto)
    np.testing.assert_allclose(run(proto, feed), expected, rtol=1e-6, atol=1e-6)


def test_the_trunk_of_a_network_stays_in_blocks(tmp_path):
    options = {"embed_dim": (16, 32, 64, 128), "depths": (1, 1, 1, 1), "num_classes": 5}
    model = timm.create_model("recnext_a0", **options).eval()
    network = prepare(model, torch.randn(1, 3, 64, 64), 1)
    proto = onnx.load_from_string(onnx_program(network, (3, 64, 64))["model.onnx"])

    def reorderings(proto):
        """How often ONNX Runtime leaves the blocks."""
        path = str(tmp_path / "optimized.onnx")
        settings = onnxruntime.SessionOptions()
        settings.optimized_model_filepath, settings.log_severity_level = path, 3
        settings.add_free_dimension_override_by_name(proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param, 1)
        onnxruntime.InferenceSession(proto.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        optimized = onnx.load(path)
        return [node.op_type for node in optimized.graph.node].count("ReorderOutput")

    before = reorderings(proto)
    assert keep_blocked(proto) == 4 + 3  # an attention a stage, an interleaving a downsample
    assert reorderings(proto) < before
