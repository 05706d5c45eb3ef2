from argparse import Namespace

import pytest
import timm
import torch

import recnext
from recnext.checkpoints.metadata import CheckpointMetadata, save_checkpoint
from recnext.errors import RecNextError
from recnext.nn.fusion import batchnorms
from recnext.tasks.segmentation import build, load


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build("test_recnext_m", num_classes=6, neck_channels=16, head_channels=8).eval()


def logits(network):
    with torch.inference_mode():
        return network(torch.ones(1, 3, 64, 64))


@pytest.mark.parametrize("kind", ["plain", "wrapped", "ddp"])
def test_published_layouts(model, tmp_path, kind):
    """As MMSegmentation writes them: keys by name, alone or with meta data and optimiser around."""
    state = model.state_dict()
    content = {
        "plain": state,
        "wrapped": {"meta": {"CLASSES": ("a",), "args": Namespace(seed=1)}, "state_dict": state, "optimizer": {"s": 1}},
        "ddp": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    }[kind]
    torch.save(content, tmp_path / "iter_80000.pth")
    loaded = load(tmp_path / "iter_80000.pth", backbone="test_recnext_m")
    assert not loaded.training
    assert torch.equal(logits(loaded), logits(model))
    assert torch.equal(logits(load(tmp_path / "iter_80000.pth")), logits(model))  # the shapes tell the backbone


def test_own_files_tell_everything(model, tmp_path):
    metadata = CheckpointMetadata(
        model="test_recnext_m", num_classes=6, class_names=tuple("abcdef"), input_size=(3, 96, 96), mean=(0.5, 0.4, 0.3)
    )
    save_checkpoint(tmp_path / "best.safetensors", model.state_dict(), metadata)
    loaded = load(tmp_path)
    assert loaded.class_names == tuple("abcdef")
    assert loaded.image_size == 96
    assert loaded.pretrained_cfg["mean"] == (0.5, 0.4, 0.3)
    assert torch.equal(logits(loaded), logits(model))


def test_fused_on_loading_and_in_the_file(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "unfused.pth")
    fused = load(tmp_path / "unfused.pth", fused=True)
    assert batchnorms(fused) == []
    torch.testing.assert_close(logits(fused), logits(model), atol=1e-4, rtol=1e-4)
    torch.save(recnext.fuse(model).state_dict(), tmp_path / "fused.pth")
    again = load(tmp_path / "fused.pth")
    assert batchnorms(again) == []
    assert torch.equal(logits(again), logits(fused))


def test_wrong_checkpoints(model, tmp_path):
    path = tmp_path / "weights.pth"
    state = model.state_dict()

    def message(content, **options):
        torch.save(content, path)
        with pytest.raises(RecNextError) as caught:
            load(path, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "is a classifier, not a segmenter" in message(timm.create_model("test_recnext_m").state_dict())
    assert "is a detector" in message({"roi_head.bbox_head.fc_cls.weight": torch.ones(2, 2)})
    assert "is no Semantic FPN" in message({"conv.weight": torch.ones(2, 2)})
    assert "tells 6 classes apart, not 150" in message(state, num_classes=150)
    assert "lacks neck.fpn_convs.1.conv.weight" in message(
        {key: value for key, value in state.items() if key != "neck.fpn_convs.1.conv.weight"}
    )
    assert "does not fit a Semantic FPN on recnext_m1" in message(state, backbone="recnext_m1")
    assert "is no RecNeXt" in message(state, backbone="resnet18")
    with pytest.raises(RecNextError, match="no such file or run folder"):
        load(tmp_path / "missing.pth")
