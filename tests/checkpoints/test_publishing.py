"""Published folders, loaded back by timm, and a push to a stand-in for the hub."""

import hashlib
import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

import recnext
from recnext.checkpoints.publishing import publish, push
from recnext.errors import RecNextError

NAMES = ("cat", "dog", "emu")
SIZE = {"size": [3, 64, 64]}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run's folder, as training leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    for number, file in enumerate(("best", "best_ema")):
        torch.manual_seed(number)
        model = recnext.load("test_recnext_a", num_classes=3, drop_path_rate=0.1)
        model.pretrained_cfg = model.default_cfg = {
            **model.pretrained_cfg,
            "input_size": (3, 64, 64),
            "mean": (0.5, 0.5, 0.5),
            "crop_pct": 0.9,
        }
        recnext.save(model, folder / f"{file}.safetensors", class_names=NAMES)
    settings = {"model": "test_recnext_a", "epochs": 2, "batch_size": 8, "ema": True, "lr": None}
    config = {"settings": settings, "data": "pets", "val_images": 12, "lr_rule": "batch 8 → lr 0.001", "input": SIZE}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    best = {"top1": 91.66666, "top5": 100.0, "val_loss": 0.25}
    (folder / "summary.json").write_text(json.dumps({"best_epoch": 2, "epochs": 2, "best": best}))
    (folder / "curves.png").write_bytes(b"a picture")
    return folder


@pytest.fixture(scope="module")
def published(run_folder, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("hub") / "out"
    publish(str(run_folder), output, repository="me/pets", license="apache-2.0")
    return output


def test_timm_builds_the_network_with_its_weights_and_preparation(run_folder, published):
    expected = recnext.load(checkpoint=run_folder)
    model = timm.create_model(f"local-dir:{published}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model(images), expected(images), rtol=0, atol=0)
    data = timm.data.resolve_model_data_config(model)
    assert (data["input_size"], tuple(data["mean"]), data["crop_pct"]) == ((3, 64, 64), (0.5, 0.5, 0.5), 0.9)
    assert tuple(model.pretrained_cfg["label_names"]) == NAMES
    config = json.loads((published / "config.json").read_text())
    assert config["architecture"] == "test_recnext_a"
    assert config["num_classes"] == 3
    assert config["model_args"]["drop_path_rate"] == 0.1
    assert "num_classes" not in config["model_args"]  # transformers passes it on top of these


def test_new_heads_and_channels_where_a_config_names_no_layers(published, tmp_path):
    """As in the configs of the published repositories."""
    shutil.copytree(published, tmp_path / "out")
    config = json.loads((published / "config.json").read_text())
    config["pretrained_cfg"] |= {"first_conv": "", "classifier": ""}
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=10, in_chans=1).eval()
    assert model(torch.randn(1, 1, 64, 64)).shape == (1, 10)
    weight = recnext.load(checkpoint=published).stem.stem[0].conv.weight
    torch.testing.assert_close(model.stem.stem[0].conv.weight, weight.sum(1, keepdim=True))


def test_two_publications_of_one_run_are_equal_to_the_byte(run_folder, published, tmp_path):
    again = publish(str(run_folder), tmp_path / "out", repository="me/pets", license="apache-2.0")
    for path in again:
        hashes = [hashlib.sha256((folder / path.name).read_bytes()).hexdigest() for folder in (path.parent, published)]
        assert hashes[0] == hashes[1], path.name


def test_recnext_loads_every_file(run_folder, published):
    images = torch.randn(2, 3, 64, 64)
    for file, options in (
        ("model.safetensors", {}),
        ("model_ema.safetensors", {"ema": True}),
        ("model_fused.safetensors", {"fused": True}),
        ("model_ema_fused.safetensors", {"ema": True, "fused": True}),
    ):
        expected = recnext.load(checkpoint=run_folder, **options)
        torch.testing.assert_close(recnext.load(checkpoint=published / file)(images), expected(images))
    assert not torch.equal(
        recnext.load(checkpoint=published)(images), recnext.load(checkpoint=published / "model_ema.safetensors")(images)
    )


def test_the_card_tells_the_run(published):
    card = ModelCard.load(published / "README.md")
    assert card.data.library_name == "timm"
    assert card.data.license == "apache-2.0"
    assert card.data.model_name == "pets"
    assert [result.metric_value for result in card.data.eval_results] == [91.667, 100.0]
    for text in (
        "| 91.67 % | 100.00 % | 0.2500 |",
        "In epoch 2 of 2 on 12 validation images",
        'timm.create_model("hf-hub:me/pets", pretrained=True)',
        "batch 8 → lr 0.001",
        "cat, dog, emu",
        "`model_ema.safetensors`",
    ):
        assert text in card.text, text
    assert "Published" not in card.text  # three classes are not ImageNet


def test_imagenet_networks_have_the_published_accuracy_beside_theirs(run_folder, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    recnext.save(recnext.load("recnext_m0"), folder / "best.safetensors")
    (folder / "summary.json").write_text((run_folder / "summary.json").read_text())
    publish(str(folder), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "74.7 % distilled, 73.2 % without distillation" in text
    assert 'timm.create_model("local-dir:out", pretrained=True)' in text


def test_names_are_no_markup_and_no_path_of_this_machine_is_published(run_folder, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    names = ("<script>alert(1)</script>", "a|b\n# c", "[x](y) *z*")
    recnext.save(recnext.load("test_recnext_m", num_classes=3), folder / "best.safetensors", class_names=names)
    settings = {"checkpoint": str(tmp_path / "start.safetensors"), "teacher": "<b>"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"settings": settings, "data": f"tar:{tmp_path}/pets"}))
    (folder / "summary.json").write_text((run_folder / "summary.json").read_text())
    publish(str(folder), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert str(tmp_path) not in text + (tmp_path / "out" / "config.json").read_text()
    assert "| checkpoint | start.safetensors |" in text
    assert "| teacher | &lt;b&gt; |" in text
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;, a\|b \# c, \[x\](y) \*z\*" in text


def test_what_cannot_be_published_is_said(published, tmp_path):
    with pytest.raises(RecNextError, match="holds folded weights, which timm cannot load"):
        publish(str(published / "model_fused.safetensors"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RecNextError, match="is a file: --output expects a folder"):
        publish(str(published), tmp_path / "file")


def test_what_an_older_run_left_is_not_published_with_the_new(run_folder, tmp_path):
    out = tmp_path / "out"
    publish(str(run_folder), out)
    assert (out / "model_ema.safetensors").is_file()
    publish(str(run_folder / "best.safetensors"), out)
    assert not (out / "model_ema.safetensors").exists()
    (out / "README.md").write_text("mine")
    with pytest.raises(RecNextError, match=r"README\.md exists and was not written by this command"):
        publish(str(run_folder), out)
    publish(str(run_folder), out, overwrite=True)
    (out / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(RecNextError, match=r"holds pytorch_model\.bin, which would be published too"):
        publish(str(run_folder), out, overwrite=True)
    (out / "pytorch_model.bin").unlink()
    (out / "older").mkdir()
    (out / "older" / "a.PTH").write_bytes(b"")
    with pytest.raises(RecNextError, match=r"holds older/a\.PTH, which would be published too"):
        publish(str(run_folder), out, overwrite=True)


def test_what_is_published_is_not_replaced_by_itself(run_folder, tmp_path):
    out = tmp_path / "out"
    publish(str(run_folder), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for source in (out, out / "model_ema.safetensors"):
        with pytest.raises(RecNextError, match="whose weights would be replaced: give another folder"):
            publish(str(source), out, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


class Hub:
    """Takes what the hub would, or raises what it would."""

    def __init__(self, error=None):
        self.error = error
        self.calls = []

    def __call__(self):
        return self

    def create_repo(self, repository, *, private, exist_ok):
        self.calls.append(("create", repository, private, exist_ok))
        if self.error is not None:
            raise self.error
        return f"hub/{repository}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.calls.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))


def test_push(published, monkeypatch):
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    assert push(published, repository="me/pets", private=True) == "hub/me/pets"
    assert hub.calls[0] == ("create", "me/pets", True, True)
    assert hub.calls[1][:2] == ("upload", "me/pets")
    assert {"README.md", "config.json", "model.safetensors"} <= set(hub.calls[1][2])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalTokenNotFoundError("no token"), "needs a login: run 'hf auth login'"),
        (OSError("no route to host"), r"did not take me/pets \(no route to host\); the files are in"),
    ],
)
def test_a_push_that_fails_is_one_line(published, monkeypatch, error, message):
    assert not isinstance(error, HfHubHTTPError)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub(error))
    with pytest.raises(RecNextError, match=message):
        push(published, repository="me/pets")
