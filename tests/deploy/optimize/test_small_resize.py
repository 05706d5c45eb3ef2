"""Resizes written as matrix products and run by ONNX Runtime; the oracle is PyTorch's interpolate."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import helper  # noqa: E402

from recnext.deploy.optimize.export import onnx_program  # noqa: E402
from recnext.deploy.optimize.network import prepare  # noqa: E402
from recnext.deploy.optimize.small_resize import rewrite_small_resizes  # noqa: E402
from recnext.nn.mixers import RecAttn2d, RecConv2d  # noqa: E402


def resize(source, output, size, mode):
    """What the exporter writes for F.interpolate."""
    position = {"linear": "half_pixel", "nearest": "asymmetric"}[mode]
    options = {"mode": mode, "coordinate_transformation_mode": position, "nearest_mode": "floor"}
    sizes = helper.make_node("Constant", [], [f"{output}_size"], value_ints=[3, 2, *size])
    return [sizes, helper.make_node("Resize", [source, "", "", f"{output}_size"], [output], **options)]


def program(before, behind, mode, how):
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


def run(proto, feed):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


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
    proto = program(before, behind, mode, how)
    assert rewrite_small_resizes(proto) == count
    assert [node.op_type for node in proto.graph.node].count("Resize") == 0
    got = run(proto, {"x": x.numpy(), "z": z.numpy(), "row": row.numpy()})
    np.testing.assert_allclose(got, oracle(x, z, row, behind, mode, how).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("before", "behind"), [((4, 4), (8, 8)), ((10, 10), (19, 19)), ((4, 4), (8, 4))])
def test_whole_factors_and_large_maps_stay(before, behind):
    proto = program(before, behind, "linear", "added")
    same = proto.SerializeToString()
    assert rewrite_small_resizes(proto) == 0
    assert proto.SerializeToString() == same


def test_a_resize_of_another_convention_stays():
    proto = program((4, 4), (7, 7), "linear", "alone")
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
