import pytest
import timm
import torch

import recnext
from checkpoints.files import network, published_fused_file
from cli.command import fails, run, run_json
from recnext.checkpoints import save
from recnext.study.analysis.stages import read_stages


def test_stages_of_m1_at_224(capsys):
    report = run_json(capsys, "info", "recnext_m1")
    assert (report["parameters"], report["fused_parameters"]) == (5561384, 5151016)
    parts = {part["name"]: part for part in report["stages"]}
    assert list(parts) == ["stem", "stages.0", "stages.1", "stages.2", "stages.3", "head"]
    shapes = [part["shape"] for part in report["stages"]]
    assert shapes == [[48, 56, 56], [48, 56, 56], [96, 28, 28], [192, 14, 14], [384, 7, 7], [1000]]
    assert sum(part["macs"] for part in report["stages"]) == report["macs"]
    assert sum(part["parameters"] for part in report["stages"]) == report["parameters"]
    assert sum(part["fused_parameters"] for part in report["stages"]) == report["fused_parameters"]
    assert report["published"]["top1_distilled"] == 79.2


def test_receptive_fields_follow_the_law(capsys):
    parts = {part["name"]: part["receptive_field"] for part in run_json(capsys, "info", "test_recnext_m")["stages"]}
    # stem: two 3x3 of stride 2; a block adds 5·2^level - 1 at the stage's stride, a downsample 7 - 1 at the one before
    assert parts["stem"] == 1 + 2 + 2 * 2
    first = 7 + 4 * (5 * 16 - 1)
    second = first + 4 * 6 + 8 * (5 * 8 - 1)
    third = second + 8 * 6 + 2 * 16 * (5 * 4 - 1)
    fourth = third + 16 * 6 + 32 * (5 * 2 - 1)
    assert [parts[f"stages.{i}"] for i in range(4)] == [first, second, third, fourth]


@pytest.mark.parametrize("name", ["test_recnext_m", "test_recnext_a", "test_recnext_l", "mlla_nano_recattn"])
def test_shapes_are_those_of_a_forward_pass(name):
    size = (256, 256) if name.startswith("mlla") else (64, 96)
    model = timm.create_model(name).eval()
    stages = [stage for stage in read_stages(timm.create_model(name, device="meta"), size) if "." in stage.name]
    with torch.inference_mode():
        features = model.forward_intermediates(torch.zeros(1, 3, *size), intermediates_only=True)
    if not name.startswith("mlla"):
        assert [stage.shape for stage in stages] == [tuple(feature.shape[1:]) for feature in features]
    assert (stages[-1].receptive_field is None) == (name != "test_recnext_m")


def test_checkpoint_by_name_or_alone(tmp_path, capsys):
    path = save(network(), tmp_path / "x.safetensors")
    for arguments in ((path,), ("test_recnext_m", "--checkpoint", path), (tmp_path / "x.safetensors",)):
        report = run_json(capsys, "info", *arguments)
        assert (report["name"], report["num_classes"]) == ("test_recnext_m", 7)
    report = run_json(capsys, "info", published_fused_file(tmp_path / "a.pt", network("test_recnext_a")))
    assert report["parameters"] == report["fused_parameters"]
    assert report["parameters"] == sum(p.numel() for p in recnext.fuse(network("test_recnext_a")).parameters())


def test_published_accuracy_is_of_the_published_network_only(tmp_path, capsys):
    narrow = {"embed_dim": (16, 32, 64, 128), "depths": (1, 1, 1, 1)}
    path = save(recnext.load("recnext_m0", **narrow), tmp_path / "narrow.safetensors")
    assert run_json(capsys, "info", path)["published"] == {}
    assert "published" not in run(capsys, "info", path)[1]
    ten = save(recnext.load("recnext_m0", num_classes=10), tmp_path / "ten.safetensors")
    assert run_json(capsys, "info", ten, "--size", "32")["published"] == {}


def test_table_and_size(capsys):
    status, out, _ = run(capsys, "info", "recnext_a0", "--size", "256x320")
    assert status == 0
    assert "recnext_a0 at 256x320" in out
    assert "40x64x80" in out
    assert "whole image" in out
    assert "73.6 (base), 75.0 (distilled)" in out


@pytest.mark.parametrize(("size", "message"), [("0", "32 pixels"), ("axb", "N or HxW"), ("1x2x3", "N or HxW")])
def test_wrong_sizes(size, message, capsys):
    assert message in fails(capsys, "info", "recnext_m0", "--size", size)


def test_unknown_network(capsys):
    assert fails(capsys, "info", "recnext_m9").startswith("no network is called 'recnext_m9': did you mean")
