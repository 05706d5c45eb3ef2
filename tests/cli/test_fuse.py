import timm
import torch

import recnext
from checkpoints.files import image, network, published_fused_file, relative_difference, training_file
from cli.command import fails, run
from golden_fill import fill
from recnext.checkpoints import save
from recnext.cli import fuse as command
from recnext.nn.fusion import batchnorms


def test_fuses_and_shows_the_proof(tmp_path, capsys):
    model = network("test_recnext_a")
    path = save(model, tmp_path / "x.safetensors", class_names=list("abcdefg"), epoch=5)
    status, out, err = run(capsys, "fuse", path, tmp_path / "y.safetensors")
    assert (status, err) == (0, "")
    before, after = (sum(p.numel() for p in part.parameters()) for part in (model, recnext.fuse(model)))
    rows = [line.split() for line in out.splitlines()]
    assert ["parameters", f"{before:,}", f"{after:,}"] in rows
    assert ["BatchNorms", str(len(batchnorms(model))), "0"] in rows
    loaded = recnext.load(checkpoint=tmp_path / "y.safetensors", fused=None)
    assert batchnorms(loaded) == []
    assert loaded.pretrained_cfg["label_names"] == tuple("abcdefg")
    with torch.inference_mode():
        assert relative_difference(loaded(image()), model(image())) < 1e-4


def test_other_sources(tmp_path, capsys):
    published = published_fused_file(tmp_path / "x.pt", network())
    assert run(capsys, "fuse", published, tmp_path / "y.safetensors")[0] == 0
    averaged = training_file(tmp_path / "x.pth", network(), fill(network(), salt="ema"))
    arguments = ("--model", "test_recnext_m", "--ema")
    assert run(capsys, "fuse", averaged, tmp_path / "z.safetensors", *arguments)[0] == 0


def test_differing_outputs_write_nothing_and_fail(tmp_path, capsys, monkeypatch):
    path = save(network(), tmp_path / "x.safetensors")

    def wrong(model):
        fused = recnext.fuse(model)
        torch.nn.init.zeros_(fused.head.weight)
        return fused

    monkeypatch.setattr(command, "fuse", wrong)
    status, _, err = run(capsys, "fuse", path, tmp_path / "y.safetensors")
    assert status == 1
    assert "nothing written" in err
    assert not (tmp_path / "y.safetensors").exists()


def test_not_finite_outputs_fail(tmp_path, capsys):
    model = network()
    torch.nn.init.constant_(model.head.head.linear.bias, float("nan"))
    path = save(model, tmp_path / "x.safetensors")
    assert "NaN or infinite numbers in head.head.linear.bias" in fails(capsys, "fuse", path, tmp_path / "y.safetensors")
    assert not (tmp_path / "y.safetensors").exists()


def test_mistakes(tmp_path, capsys):
    assert "no such file" in fails(capsys, "fuse", tmp_path / "no.pth", tmp_path / "y.safetensors")
    assert "must end in .safetensors" in fails(capsys, "fuse", tmp_path / "no.pth", tmp_path / "y.pth")


def test_a_network_that_cannot_be_folded_is_said_to_be_so(tmp_path, capsys):
    path = save(timm.create_model("resnet10t", num_classes=2), tmp_path / "x.safetensors")
    status, _, err = run(capsys, "fuse", path, tmp_path / "y.safetensors")
    assert status == 1
    assert "BatchNorms of resnet10t cannot be folded" in err
    assert "differs" not in err
    assert not (tmp_path / "y.safetensors").exists()
