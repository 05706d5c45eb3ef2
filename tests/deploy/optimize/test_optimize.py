"""`recnext.optimize`: equal outputs in every backend and batch, its choice, its cache and its complaints."""

import logging
import sys

import pytest
import torch
from torch import nn

import recnext
from deploy.optimize.networks import trained
from recnext.deploy.optimize import Trial, forward_for, selection
from recnext.deploy.optimize.cache import Cache
from recnext.deploy.optimize.precision import native_precisions
from recnext.deploy.optimize.runtime import CompiledForms
from recnext.errors import MissingExtraError

X = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _cache_and_precisions(tmp_path, monkeypatch):
    """A cache of its own, and a processor without bfloat16, so that every machine tries the same."""
    monkeypatch.setenv("RECNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("recnext.deploy.optimize.precision.native_precisions", lambda device: ("fp32",))


@pytest.fixture(scope="module")
def model():
    return trained("test_recnext_m")


class Small(nn.Module):
    """Quick to export."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, groups=3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


def small():
    torch.manual_seed(1)
    return Small()


def images(batch, height=64, width=64):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))


def lines(caplog):
    """What our own logger said to the user."""
    return [r.getMessage() for r in caplog.records if r.name == "recnext" and r.levelno >= logging.WARNING]


def assert_equal(optimized, model, x, tolerance=1e-4):
    with torch.no_grad():
        expected = model(x)
    got = optimized(x)
    if isinstance(expected, torch.Tensor):
        got, expected = [got], [expected]
    assert len(got) == len(expected)
    for one, truth in zip(got, expected, strict=True):
        assert one.dtype == torch.float32
        assert one.shape == truth.shape
        assert (one - truth).abs().max() <= tolerance * truth.std()


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_outputs_are_equal_for_any_batch(model, backend):
    optimized = recnext.optimize(model, X, backend=backend, precision="fp32", threads=1)
    assert (optimized.backend, optimized.precision, optimized.threads) == (backend, "fp32", 1)
    for batch in (1, 3, 2, 4, 5, 7, 6):  # more than have forms of their own
        assert_equal(optimized, model, images(batch))
    kept = optimized(images(1))
    copy = kept.clone()
    optimized(images(1) + 1)
    assert torch.equal(kept, copy)  # a result is not overwritten by the next
    assert optimized(images(1)[:0]).shape == (0, 1000)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_memory_of_an_input_that_is_used_again(backend):
    model = small()
    optimized = recnext.optimize(model, X, backend=backend, precision="fp32", threads=1)
    x = images(8)
    assert_equal(optimized, model, x)
    x.mul_(-2)  # the same memory with other values
    assert_equal(optimized, model, x)
    for batch in (1, 2, 3, 5, 7, 8):  # the same memory, other shapes; more than have forms of their own
        assert_equal(optimized, model, x[:batch])
    for seed in range(3):  # memory that is freed and may be given out again
        assert_equal(optimized, model, torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(
    ("name", "options", "backend"),
    [("test_recnext_a", {}, "onnxruntime"), ("test_recnext_l", {"features_only": True}, "openvino")],
)
def test_attention_and_lists_of_maps(name, options, backend):
    model = trained(name, **options)
    optimized = recnext.optimize(model, X, backend=backend, threads=1)
    assert_equal(optimized, model, images(3))
    assert isinstance(optimized(X), list) == bool(options)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_another_image_size_is_compiled_for(backend):
    model = small()
    optimized = recnext.optimize(model, X, backend=backend, threads=1)
    for size in ((48, 80), (33, 64), (64, 64)):
        assert_equal(optimized, model, images(2, *size))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_forms_of_other_shapes_can_be_released(backend):
    model = small()
    optimized = recnext.optimize(model, X, backend=backend, precision="fp32", threads=1)
    for batch in (2, 3, 1):
        optimized(images(batch))
    optimized.release()
    if backend != "torch":
        assert list(optimized._runner._runners) == [tuple(X.shape)]
    for batch in (1, 2):
        assert_equal(optimized, model, images(batch))


@pytest.mark.slow
def test_torch_compile():
    model = small()
    optimized = recnext.optimize(model, X, backend="compile", threads=1)
    for batch in (1, 3):
        assert_equal(optimized, model, images(batch))


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.1), ("fp16", 0.02)])
def test_lower_precisions_of_torch(model, precision, tolerance):
    optimized = recnext.optimize(model, X, backend="torch", precision=precision, threads=1)
    assert optimized.precision == precision
    assert_equal(optimized, model, images(2), tolerance)


def test_the_original_stays_as_it_was(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    recnext.optimize(model, X, backend="torch")
    assert model.training
    model.eval()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_auto_takes_the_fastest_says_why_and_remembers(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "recnext")
    model = small()
    first = recnext.optimize(model, X, threads=1)
    assert {trial.backend for trial in first.report} == {"openvino", "onnxruntime", "torch"}
    times = [trial.milliseconds for trial in first.report]
    assert times == sorted(times)
    assert first.backend == first.report[0].backend
    assert first.reason.startswith(f"{first.backend} fp32, ")
    assert first.reason in caplog.text
    assert all(trial.error <= 1e-4 for trial in first.report)

    monkeypatch.setattr(selection, "interleaved", None)  # a second start makes no trial
    monkeypatch.setattr("recnext.deploy.optimize.runtime.onnx_program", None)  # and exports nothing
    second = recnext.optimize(model, X, threads=1)
    assert second.backend == first.backend
    assert second.report == first.report
    assert second.reason.endswith("remembered")
    assert_equal(second, model, X)


def test_other_weights_are_another_network(monkeypatch):
    model = small()
    recnext.optimize(model, X, backend="onnxruntime", threads=1)
    with torch.no_grad():
        model.conv.weight.mul_(2)
    assert_equal(recnext.optimize(model, X, backend="onnxruntime", threads=1), model, X)


def test_a_choice_of_another_version_is_made_again(tmp_path, caplog):
    first = recnext.optimize(small(), X, threads=1)
    (stored,) = (tmp_path / "cache").glob("*/choice-*")
    cache = Cache(stored.parent.name, stored.parent.parent)
    cache.write(stored.stem, {"trials": b'[{"backend": "torch", "speed": 1}]'})
    assert recnext.optimize(small(), X, threads=1).report[0].milliseconds is not None
    assert first.report[0].milliseconds is not None
    (line,) = lines(caplog)
    assert line.endswith("is of another version; compiling anew")


@pytest.mark.parametrize("content", [b"", b"not a program", "other"])
def test_a_damaged_or_wrong_program_is_rebuilt(tmp_path, caplog, content):
    model = small()
    recnext.optimize(model, X, backend="onnxruntime", threads=1)
    (stored,) = (tmp_path / "cache").glob("*/program-*")
    if content == "other":  # whole, but of another network
        wrong = Cache(stored.parent.name, stored.parent.parent)
        parts = wrong.read(stored.stem)
        assert parts is not None
        wrong.write(stored.stem, {**parts, "model.onnx": b"no protobuf"})
    else:
        stored.write_bytes(content)
    assert_equal(recnext.optimize(model, X, backend="onnxruntime", threads=1), model, X)
    (line,) = lines(caplog)
    assert line.endswith("; compiling anew")
    assert len(stored.read_bytes()) > 100


def test_no_cache_is_kept_where_it_is_off(tmp_path, monkeypatch):
    monkeypatch.setenv("RECNEXT_CACHE", "off")
    recnext.optimize(small(), X, threads=1)
    assert not (tmp_path / "cache").exists()


def test_without_runtimes_torch_remains_and_says_what_is_missing(monkeypatch):
    for package in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(selection, "can_compile", lambda device: False)
    model = small()
    optimized = recnext.optimize(model, X, threads=1)
    assert optimized.backend == "torch"
    assert "not installed: openvino, onnxruntime" in optimized.reason
    assert_equal(optimized, model, images(3))
    with pytest.raises(MissingExtraError, match=r"backend 'openvino' needs openvino.*recnext\[openvino\]"):
        recnext.optimize(model, X, backend="openvino")
    with pytest.raises(MissingExtraError, match=r"recnext\[onnx\]"):
        recnext.optimize(model, X, backend="onnxruntime")


def test_torch_compile_is_tried_where_there_is_no_runtime(monkeypatch):
    for package in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(selection, "can_compile", lambda device: True)
    assert selection._candidates("auto", "fp32", X.device)[0] == [("compile", "fp32"), ("torch", "fp32")]


def test_a_backend_that_fails_or_is_wrong_is_dropped_with_one_line(monkeypatch, caplog):
    runtimes = selection.RUNTIMES

    def broken(*args, **options):
        raise RuntimeError("no such operator\nand more")

    load = type(runtimes["onnxruntime"]).load

    def wrong(self, *args, **options):
        run = load(self, *args, **options)
        return lambda x: [output * 1.01 for output in run(x)]

    monkeypatch.setattr(runtimes["openvino"], "load", broken)
    monkeypatch.setattr(type(runtimes["onnxruntime"]), "load", wrong)
    optimized = recnext.optimize(small(), X, threads=1)
    assert optimized.backend == "torch"
    said = lines(caplog)
    assert said[0] == "optimize: openvino fp32 is dropped: no such operator"
    assert "onnxruntime fp32 is dropped: outputs differ by" in said[1]
    assert len(said) == 2
    assert {trial.note for trial in optimized.report[1:]} == {line.partition("dropped: ")[2] for line in said}
    with pytest.raises(recnext.RecNextError, match="openvino in fp32 cannot run this model: no such operator"):
        recnext.optimize(small(), X, backend="openvino")


def test_a_size_that_cannot_be_compiled_runs_in_torch(monkeypatch, caplog):
    model = small()
    optimized = recnext.optimize(model, X, backend="onnxruntime", threads=1)

    def failing(self, x):
        raise RuntimeError("too large")

    monkeypatch.setattr(CompiledForms, "_convert", failing)
    for _ in range(2):
        assert_equal(optimized, model, images(2, 40, 40))
    assert lines(caplog) == ["onnxruntime: batches of shape (2, 3, 40, 40) run in torch: too large"]


def test_threads_are_honoured_and_put_back():
    before = torch.get_num_threads()

    class Counting(nn.Module):
        def forward(self, x):
            seen.append(torch.get_num_threads())
            return x.mean((2, 3))

    seen = []
    optimized = recnext.optimize(Counting(), X, backend="torch", threads=before + 1)
    optimized(X)
    assert seen[-1] == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "tensorrt"}, "backend='tensorrt' must be auto, openvino, onnxruntime, compile, torch"),
        ({"precision": "int8"}, "precision 'int8': expected auto, fp32, bf16, fp16"),
        ({"backend": "onnxruntime", "precision": "fp16"}, "has no precision fp16; it has fp32"),
        ({"threads": 0}, "threads=0"),
        ({"example_input": torch.zeros(3, 64, 64)}, r"\(3, 64, 64\); expected a float tensor"),
        ({"example_input": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, "torch.uint8"),
        ({"example_input": torch.zeros(1, 4, 64, 64)}, "does not run on example_input of shape"),
        ({"model": lambda x: x}, "expected a torch.nn.Module"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"model": small(), "example_input": X, **change}
    with pytest.raises(recnext.RecNextError, match=message):
        recnext.optimize(arguments.pop("model"), arguments.pop("example_input"), **arguments)


def test_bad_inputs():
    optimized = recnext.optimize(small(), X, backend="torch")
    for x in (torch.zeros(1, 4, 64, 64), torch.zeros(3, 64, 64), torch.zeros(1, 3, 8, 8, dtype=torch.int64), None):
        with pytest.raises(recnext.RecNextError, match=r"expected floats \(N, 3, H, W\)"):
            optimized(x)
    with pytest.raises(recnext.RecNextError, match="on meta; it was optimised for cpu"):
        optimized(torch.zeros(1, 3, 8, 8, device="meta"))


def test_forward_for_long_jobs():
    model = small()
    assert forward_for(model, X) is model
    assert not model.training
    assert forward_for(model, X, backend="torch", precision="bf16").precision == "bf16"


def test_the_sentence_names_winner_and_beaten():
    trials = [Trial("openvino", "fp32", 12.0), Trial("torch", "fp32", 30.0), Trial("onnxruntime", "fp32", note="no")]
    assert selection._sentence(trials, 2) == "openvino fp32, 12 ms against 30 in torch fp32; 2 threads"


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.skipif("bf16" not in native_precisions(X.device), reason="this processor has no bfloat16")
@pytest.mark.parametrize("name", ["test_recnext_m", "test_recnext_a", "test_recnext_l"])
def test_bfloat16_where_the_processor_has_it(name, backend):
    model = trained(name)
    optimized = recnext.optimize(model, X, backend=backend, precision="bf16", threads=1)
    assert_equal(optimized, model, images(2), tolerance=0.1)
