"""Graphs rewritten for ONNX Runtime keep their values; of resizes the oracle is PyTorch's interpolate."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from recnext.deploy.optimize.network import prepare  # noqa: E402
from recnext.deploy.optimize.onnx_rewriting import keep_blocked, rewrite_small_resizes  # noqa: E402
from recnext.deploy.optimize.program import onnx_program  # noqa: E402
from recnext.nn.mixers import RecAttn2d, RecConv2d  # noqa: E402


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


def resize(source, output, size, mode):
    """What the exporter writes for F.interpolate."""
    position = {"linear": "half_pixel", "nearest": "asymmetric"}[mode]
    options = {"mode": mode, "coordinate_transformation_mode": position, "nearest_mode": "floor"}
    sizes = helper.make_node("Constant", [], [f"{output}_size"], value_ints=[3, 2, *size])
    return [sizes, helper.make_node("Resize", [source, "", "", f"{output}_size"], [output], **options)]


def resizing(before, behind, mode, how):
    """Resizes x, (3, 2, H, W), and does with the result what `how` says."""
    nodes = resize("x", "up", behind, mode)
    if how == "alone":
        nodes.append(helper.make_node("Identity", ["up"], ["y"]))
    elif how == "added":
        nodes += [helper.make_node("Add", ["z", "up"], ["y"])]
    elif how == "added and used":
        nodes += [helper.make_node("Add", ["z", "up"], ["sum"]), helper.make_node("Mul", ["sum", "up"], ["y"])]
    elif how == "two resizes added":
        nodes += [*resize("x", "again", behind, "nearest"), helper.make_node("Add", ["again", "up"], ["y"])]
    elif how == "broadcast":
        nodes.append(helper.make_node("Add", ["up", "row"], ["y"]))
    shapes = {"x": [3, 2, *before], "z": [3, 2, *behind], "row": [3, 2, 1, behind[1]]}
    values = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3, 2, *behind])
    graph = helper.make_graph(nodes, "resize", list(values.values()), [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def oracle(x, z, row, behind, mode, how):
    up = F.interpolate(x, size=behind, mode={"linear": "bilinear"}.get(mode, mode))
    return {
        "alone": up,
        "added": z + up,
        "added and used": (z + up) * up,
        "two resizes added": up + F.interpolate(x, size=behind),
        "broadcast": up + row,
    }[how]


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize(
    ("how", "count"), [("alone", 1), ("added", 1), ("added and used", 1), ("two resizes added", 2), ("broadcast", 1)]
)
@pytest.mark.parametrize(("before", "behind"), [((4, 3), (7, 5)), ((4, 4), (7, 7))])
def test_a_resize_to_an_odd_size(mode, how, count, before, behind):
    x, z, row = torch.randn(3, 2, *before), torch.randn(3, 2, *behind), torch.randn(3, 2, 1, behind[1])
    proto = resizing(before, behind, mode, how)
    assert rewrite_small_resizes(proto) == count
    assert [node.op_type for node in proto.graph.node].count("Resize") == 0
    got = run(proto, {"x": x.numpy(), "z": z.numpy(), "row": row.numpy()})
    np.testing.assert_allclose(got, oracle(x, z, row, behind, mode, how).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("before", "behind"), [((4, 4), (8, 8)), ((10, 10), (19, 19)), ((4, 4), (8, 4))])
def test_integer_factors_and_large_maps_stay(before, behind):
    proto = resizing(before, behind, "linear", "added")
    same = proto.SerializeToString()
    assert rewrite_small_resizes(proto) == 0
    assert proto.SerializeToString() == same


def test_a_resize_of_another_convention_stays():
    proto = resizing((4, 4), (7, 7), "linear", "alone")
    for attribute in proto.graph.node[1].attribute:
        if attribute.name == "coordinate_transformation_mode":
            attribute.s = b"align_corners"
    assert rewrite_small_resizes(proto) == 0


@pytest.mark.parametrize(("mixer", "count"), [(RecConv2d(4, level=3), 2), (RecAttn2d(4), 1)])
def test_mixers_keep_their_outputs_for_any_batch(mixer, count):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), mixer).eval()
    network = prepare(model, torch.randn(1, 3, 13, 11), 1)
    proto = onnx.load_from_string(onnx_program(network, (3, 13, 11))["model.onnx"])
    assert rewrite_small_resizes(proto) >= count
    x = torch.randn(3, 3, 13, 11)
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(run(proto, {proto.graph.input[0].name: x.numpy()}), expected, rtol=1e-5, atol=1e-5)
