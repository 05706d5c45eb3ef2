import pytest
import timm
import torch
from torch import nn

import recnext
from checkpoints.files import TINY, image, network, training_file
from recnext.checkpoints import convert, read_metadata, save
from recnext.errors import RecNextError


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", TINY)
def test_round_trip_needs_no_arguments(name, fused, tmp_path):
    model = recnext.fuse(network(name)) if fused else network(name)
    path = save(model, tmp_path / "x.safetensors", class_names=list("abcdefg"), epoch=4)
    metadata = read_metadata(path)
    assert (metadata.model, metadata.fused, metadata.epoch) == (name, fused, 4)
    loaded = recnext.load(checkpoint=path)
    assert loaded.pretrained_cfg["label_names"] == tuple("abcdefg")
    assert list(loaded.state_dict()) == list(model.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image()), model(image()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["test_recnext_m", "mlla_nano_recattn_rope"])
def test_arguments_and_preparation_are_remembered(name, tmp_path):
    arguments = {"depths": [1, 1, 1, 1], "embed_dim": 16 if name.startswith("mlla") else [8, 16, 32, 64]}
    model = timm.create_model(name, num_classes=3, **arguments).eval()
    model.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "crop_pct": 1.0, "input_size": (3, 64, 64)}
    path = save(model, tmp_path / "x.safetensors")
    loaded = recnext.load(checkpoint=path)
    config = timm.data.resolve_model_data_config(loaded)
    assert (config["mean"], config["crop_pct"], config["input_size"]) == ((0.1, 0.2, 0.3), 1.0, (3, 64, 64))
    x = image(256 if name.startswith("mlla") else 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), model(x))
        stages = recnext.load(checkpoint=path, features_only=True)(x)
    assert len(stages) == 4


@pytest.mark.parametrize("name", ["test_recnext_m", "test_recnext_a", "test_recnext_l"])
def test_arguments_are_remembered_where_timm_remembers_none(name, tmp_path):
    model = timm.models.model_entrypoint(name)(drop_rate=0.25, num_classes=3)  # create_model is what records them
    read = read_metadata(save(model, tmp_path / "x.safetensors"))
    assert read.model_args["drop_rate"] == 0.25
    assert read.num_classes == 3


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(RecNextError, match="cannot save Linear"):
        save(nn.Linear(2, 2), tmp_path / "x.safetensors")
    with pytest.raises(RecNextError, match="must end in"):
        save(network(), tmp_path / "x.pth")
    with pytest.raises(RecNextError, match="there is no folder"):
        save(network(), tmp_path / "no" / "x.safetensors")
    with pytest.raises(RecNextError, match="2 class names for a network of 7"):
        save(network(), tmp_path / "x.safetensors", class_names=["a", "b"])
    with pytest.raises(RecNextError, match="argument act_layer="):
        save(network(act_layer=nn.ReLU), tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_convert_keeps_what_is_known(tmp_path):
    path = save(network(), tmp_path / "x.safetensors", class_names=list("abcdefg"), epoch=2)
    convert(str(path), tmp_path / "y.safetensors", fused=True)
    metadata = read_metadata(tmp_path / "y.safetensors")
    assert (metadata.class_names, metadata.epoch, metadata.fused) == (tuple("abcdefg"), 2, True)
    convert(str(training_file(tmp_path / "z.pth", network())), tmp_path / "z.safetensors")
    assert recnext.load(checkpoint=tmp_path / "z.safetensors").num_classes == 7
