"""Core ML programs are evaluated op by op: Apple's runtime is not here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

from deploy.export.contract import ODD, exported
from deploy.export.phones import PhoneContract, full_depth
from recnext.deploy.export import Exported, described, export, export_to, target
from recnext.deploy.export.integer_factors import IntegerFactors
from recnext.errors import MissingExtraError, RecNextError
from recnext.nn.mixers import LinearAttention
from recnext.nn.mixers.registry import create_token_mixer

pytest.importorskip("coremltools", reason="coremltools is not installed: make test-export, or the coreml extra")

from recnext.deploy.export.coreml import CoreMl, unique_names
from recnext.deploy.export.coreml_evaluator import CoreMlProgram
from recnext.deploy.export.coreml_evaluator_ops import evaluate


class TestCoreMl(PhoneContract):
    name = "coreml"
    opened = False
    pixels = ("RGB image", ODD)

    def test_it_is_a_package_that_was_not_run(self, made: Exported) -> None:
        assert made.unproved == "program checked, not run on Apple hardware"
        assert {path.name for path in made.path.parent.iterdir()} == {made.path.name, f"{made.path.name}.json"}


def test_image_in_labels_out(tmp_path: Path) -> None:
    """Pixels in, as the runtime hands them over; two classes of one name stay apart."""
    names = ("crane", "Käfer", "crane", "dog", "cat")
    made = exported(CoreMl(), tmp_path, "test_recnext_m", preprocess=True, class_names=names, precision="fp16")
    assert made.comparisons[0].shape == (1, *ODD, 3)
    assert made.comparisons[0].relative < 5e-3
    (image,) = made.contents.inputs
    assert (image.name, image.dtype, image.shape) == ("image", "RGB image", ODD)
    program = CoreMlProgram(made.path)
    assert program.description.predictedFeatureName == "label"
    assert labels(program) == ["crane", "Käfer", "crane (2)", "dog", "cat"]
    probabilities = CoreMl().load(made.path)(np.full((1, *ODD, 3), 200, np.uint8))[0]
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


def labels(program: CoreMlProgram) -> list[str]:
    classify = next(op for op in program._main.operations if op.op_type == "classify")
    return [str(name) for name in classify.classes.val]


@pytest.mark.parametrize(("compression", "decoded"), [("int8", "affine_dequantize"), ("palettised", "lut_to_dense")])
def test_compressed_weights(compression: str, decoded: str, tmp_path: Path) -> None:
    made = exported(CoreMl(), tmp_path, "test_recnext_m", size=(32, 32), compression=compression, preprocess=True)
    assert made.contents.operators[f"constexpr_{decoded}"] > 5
    assert 1e-4 < made.comparisons[0].relative < 0.1
    assert made.precision == "int8"
    parameters = sum(p.numel() for p in timm.create_model("test_recnext_m", num_classes=5).parameters())
    assert made.size_on_disk < 2 * parameters


class Mixed(torch.nn.Module):
    """One token mixer between a convolution and a mean."""

    def __init__(self, mixer: torch.nn.Module) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 1)
        self.mixer = mixer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mixer(self.stem(x)).mean((2, 3))


MIXERS: dict[str, Callable[[], torch.nn.Module]] = {
    **{
        name: lambda name=name: create_token_mixer(name, 8, 2)  # type: ignore[misc]
        for name in ("rec_3x3_nearest_recurrent", "rec_3x3_group", "rec_3x3_split", "rec_3x3_conv_transpose_tanh")
    },
    "softmax": lambda: LinearAttention(8, 2, kernel="softmax"),
    "softplus": lambda: LinearAttention(8, 2, kernel="softplus"),
}


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_is_evaluated(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Mixed(MIXERS[name]()).eval()
    made = export_to(CoreMl(), network, described(network, size=(32, 40)), tmp_path)
    assert made.comparisons[0].relative < 1e-5


@full_depth
@pytest.mark.slow
def test_mlla_programs_hold_no_operation_that_the_evaluator_lacks(tmp_path: Path) -> None:
    for variant in ("recconv_nearest", "recconv_transposed", "recattn"):
        assert exported(CoreMl(), tmp_path, f"mlla_nano_{variant}", size=(64, 64)).comparisons[0].relative < 1e-5


def small_program(build: Callable[[Any, Any], Any], shape: tuple[int, ...], path: Path, *, half: bool = False) -> Path:
    """A package with one input `x` and what `build(mb, x)` makes of it."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    dtype = types.fp16 if half else types.fp32

    @mb.program(input_specs=[mb.TensorSpec(shape, dtype)], opset_version=ct.target.iOS16)
    def program(x):
        return build(mb, x)

    precision = ct.precision.FLOAT16 if half else ct.precision.FLOAT32
    options: dict[str, Any] = {"minimum_deployment_target": ct.target.iOS16, "compute_precision": precision}
    model = ct.convert(program, convert_to="mlprogram", skip_model_load=True, **options)
    model.save(str(path))
    return path


def evaluated(path: Path, x: np.ndarray) -> np.ndarray:
    program = CoreMlProgram(path)
    (name,) = program.inputs
    (output,) = program(**{name: x}).values()
    return output


@pytest.mark.parametrize(
    ("scale", "corners", "expected"),
    [
        (2.5, False, [0.0, 0.1, 0.5, 0.9, 1.0]),
        (2.5, True, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (3.0, False, [0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0]),
        (3.0, True, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_bilinear_grid_is_that_of_the_reference(scale: float, corners: bool, expected: list[float]) -> None:
    """The four examples of coremltools' reference of upsample_bilinear."""
    given = {"x": torch.tensor([[[[0.0, 1.0]]]]), "scale_factor_width": scale, "align_corners": corners}
    (y,) = evaluate("upsample_bilinear", **given)
    np.testing.assert_allclose(y.flatten(), expected, atol=1e-6)


def test_nearest_by_a_fraction_is_refused() -> None:
    """The reference does not say which neighbours Core ML takes."""
    given = {"x": torch.zeros(1, 1, 4, 4), "scale_factor_height": 1.75, "scale_factor_width": 1.75}
    with pytest.raises(ValueError, match="no integer factor"):
        evaluate("upsample_nearest_neighbor", **given)


X = np.random.default_rng(0).standard_normal((2, 6, 4, 3)).astype(np.float32)
BY_COREMLTOOLS: dict[str, dict[str, Any]] = {
    "concat": {"values": [X, X[:, :2]], "axis": 1},
    "elu": {"x": X, "alpha": 0.5},
    "expand_dims": {"x": X, "axes": [0, -1]},
    "linear": {"x": X, "weight": X[0, :5, 0], "bias": X[0, :5, 0, 0]},
    "matmul": {"x": X, "y": X, "transpose_y": True, "transpose_x": False},
    "real_div": {"x": X, "y": X + 9},
    "reduce_mean": {"x": X, "axes": [-1, -2], "keep_dims": False},
    "reduce_sum": {"x": X, "axes": [1], "keep_dims": True},
    "reshape": {"x": X, "shape": [2, -1, 3]},
    "slice_by_index": {
        "x": X,
        "begin": [0, 1, -3, 0],
        "end": [0, 5, -1, 2],
        "stride": [1, 2, 1, 1],
        "begin_mask": [True, False, False, False],
        "end_mask": [True, False, False, False],
    },
    "softmax": {"x": X, "axis": 1},
    "split": {"x": X, "split_sizes": [1, 5], "axis": 1},
    "squeeze": {"x": X[:1, :, :1], "axes": [0]},
    "stack": {"values": [X, X + 1], "axis": 2},
    "transpose": {"x": X, "perm": [0, 2, 3, 1]},
}


@pytest.mark.parametrize("operation", BY_COREMLTOOLS)
def test_operation_equals_coremltools_own_constant_folding(operation: str) -> None:
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import Function

    given = BY_COREMLTOOLS[operation]
    with Function({}):
        result = getattr(mb, operation)(**given)
    expected = [part.val for part in (result if isinstance(result, (list, tuple)) else [result])]
    assert expected[0] is not None
    for part, truth in zip(evaluate(operation, **given), expected, strict=True):
        np.testing.assert_allclose(part, truth, rtol=1e-5, atol=1e-6)


def test_float16_overflow_is_seen(tmp_path: Path) -> None:
    path = small_program(lambda mb, x: mb.mul(x=mb.mul(x=x, y=np.float16(300)), y=np.float16(300)), (1, 2),
                         tmp_path / "p.mlpackage", half=True)  # fmt: skip
    y = evaluated(path, np.array([[1.0, 0.5]], np.float32))
    np.testing.assert_array_equal(y, [[np.inf, np.float16(45000)]])


def test_unknown_operation_is_named(tmp_path: Path) -> None:
    path = small_program(lambda mb, x: mb.erf(x=x), (1, 2), tmp_path / "p.mlpackage")
    with pytest.raises(RecNextError, match=r"no operation 'erf'.*it has add, "):
        evaluated(path, np.zeros((1, 2), np.float32))


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    path = small_program(lambda mb, x: mb.relu(x=x), (1, 2), tmp_path / "p.mlpackage")
    with pytest.raises(RecNextError, match=r"takes x \(1, 2\), not x \(1, 3\)"):
        evaluated(path, np.zeros((1, 3), np.float32))


@pytest.mark.parametrize("side", [7, 8, 13])
def test_integer_factors_change_nothing(side: int) -> None:
    x = torch.randn(1, 3, (side + 1) // 2, 4)
    expected = F.interpolate(x, size=(side, 7), mode="nearest")
    with IntegerFactors():
        assert torch.equal(F.interpolate(x, size=(side, 7), mode="nearest"), expected)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"compression": "zip"}, "compression='zip' must be int8 or palettised"),
        ({"preprocess": True, "batch": 2}, "an image input of coreml takes 1"),
    ],
)
def test_what_cannot_be_made_is_refused_before_any_work(choices: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecNextError, match=message):
        exported(CoreMl(), tmp_path / "out", "test_recnext_m", **choices)
    assert not (tmp_path / "out").exists()


def test_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    class Unusual(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.i0e(x).mean((2, 3))

    network = Unusual().eval()
    with pytest.raises(RecNextError, match=r"coreml cannot export unusual: .*i0e"):
        export_to(CoreMl(), network, described(network, size=(32, 32)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(CoreMl, "packages", ("coremltools_that_is_missing",))
    with pytest.raises(MissingExtraError, match=r"pip install 'recnext\[coreml\]'"):
        target("coreml").load(tmp_path / "x.mlpackage")


def test_unique_names() -> None:
    assert unique_names(("a", "b", "a", "a")) == ["a", "b", "a (2)", "a (3)"]


def test_compressed_once_whatever_the_precisions_and_without_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_recnext_m", num_classes=5).eval()
    choices: dict[str, Any] = {"size": (32, 32), "to": "coreml"}
    (made,) = export(network, tmp_path, precisions=("fp16", "fp32"), compression="int8", **choices)
    assert made.path.name == "test_recnext_m_int8.mlpackage"
    (made,) = export(network, tmp_path, precisions=("int8",), **choices)
    assert made.problem == ""
    with pytest.raises(RecNextError, match="is read for int8 only"):
        export(network, tmp_path, precisions=("int8",), calibrate=tmp_path, **choices)
