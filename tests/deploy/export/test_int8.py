"""int8 on trained weights: the demo's network, a few epochs on the digits."""

from dataclasses import replace

import pytest
import torch

from recnext.checkpoints import load
from recnext.deploy.export import described, export_to, target
from recnext.deploy.export.accuracy import calibration_batches, judge_on
from recnext.errors import RecNextError
from recnext.study.demo.digits import CLASS_NAMES, write_folders


@pytest.mark.slow
def test_int8_keeps_the_accuracy(digits, tmp_path):
    """At most half a point of top-1 on 359 held-out digits, in both runtimes, and about a quarter of the size."""
    network = load(checkpoint=digits / "run")
    spec = described(network, name="digits", dynamic_size=False)
    assert spec.size == (32, 32)
    assert spec.class_names == CLASS_NAMES
    batches = calibration_batches(digits / "data" / "train", spec, images=128)
    assert len(batches) == 128
    assert batches[0].shape == (1, 3, 32, 32)
    judge = judge_on(network, digits / "data", limit=0.5)
    whole = export_to(target("onnx"), network, spec, tmp_path, threads=1)
    small = replace(spec, precision="int8", calibration=batches)
    for name in ("onnx", "openvino"):
        made = export_to(target(name), network, small, tmp_path, threads=1, judge=judge(small))
        assert made.problem == "", name
        assert made.judgement is not None
        assert made.judgement.images == 359
        assert made.judgement.before > 90
        assert made.judgement.loss <= 0.5
        assert made.latency_ms is not None
        assert made.latency_ms > 0
        assert max(row.relative for row in made.comparisons) > 1e-3  # it is quantised
    assert (tmp_path / "digits_int8.onnx").stat().st_size < 0.6 * whole.size_on_disk
    strict = judge_on(network, digits / "data", limit=-101)
    failed = export_to(target("onnx"), network, small, tmp_path / "strict", threads=1, judge=strict(small))
    assert failed.problem.startswith("top-1 falls by")
    assert not (tmp_path / "strict").exists()


def test_calibration_images_become_the_files_input(tmp_path):
    """Oracle: recnext.data.normalise on the same PNGs, which are already of the size."""
    from recnext.data import normalise

    write_folders(tmp_path, per_class=1)
    spec = replace(described(load("test_recnext_m", num_classes=10), size=(32, 32)), crop_pct=1.0, batch=4)
    batches = calibration_batches(tmp_path / "val", spec)
    assert [batch.shape for batch in batches] == [(4, 3, 32, 32)] * 2  # ten images, two left over
    pixels = calibration_batches(tmp_path / "val", replace(spec, preprocess=True))
    assert pixels[0].dtype == "uint8"
    images = normalise(
        torch.from_numpy(pixels[1]).permute(0, 3, 1, 2), mean=spec.mean, std=spec.std, device=torch.device("cpu")
    )
    torch.testing.assert_close(torch.from_numpy(batches[1]), images.contiguous())
    with pytest.raises(RecNextError, match="holds 10 images: a batch of 64"):
        calibration_batches(tmp_path / "val", replace(spec, batch=64))
