import json
import socket

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

import recnext
from checkpoints.files import network
from recnext.errors import RecNextError


def missing_entry(message):
    kind = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)  # the name before version 1
    return kind.__new__(kind, message)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that holds what is in a folder; nothing is cached."""
    folder = tmp_path / "hub"
    folder.mkdir()
    asked = []

    def download(repository, filename, *, revision=None, local_files_only=False):
        asked.append((repository, filename, revision, local_files_only))
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        if not (folder / filename).exists():
            raise missing_entry(filename)
        return str(folder / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    return folder, asked


@pytest.mark.parametrize("name", ["hf-hub:someone/net", "someone/net", "hf-hub:someone/net@v2"])
def test_hub_ids(name, hub):
    folder, asked = hub
    save_file(network().state_dict(), folder / "model.safetensors")
    names = list("abcdefg")
    config = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 64, 64], "label_names": names}
    (folder / "config.json").write_text(
        json.dumps({"architecture": "test_recnext_m", "num_classes": 7, "pretrained_cfg": config})
    )
    model = recnext.load(checkpoint=name)
    assert asked[-2] == ("someone/net", "model.safetensors", "v2" if "@" in name else None, False)
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    assert model.pretrained_cfg["label_names"] == tuple(names)


def test_published_weights_and_tags(hub):
    folder, asked = hub
    torch.save(network("recnext_m0", num_classes=1000).state_dict(), folder / "pytorch_model.bin")
    assert recnext.load("recnext_m0", pretrained=True, num_classes=2).num_classes == 2
    assert {repository for repository, *_ in asked} == {"suous/recnext_m0.dist_300e_in1k"}
    asked.clear()
    recnext.load("recnext_m0.base_300e_in1k", pretrained=True)
    assert {repository for repository, *_ in asked} == {"suous/recnext_m0.base_300e_in1k"}


def test_hub_repository_without_weights(hub):
    with pytest.raises(RecNextError, match=r"holds neither model\.safetensors nor pytorch_model\.bin"):
        recnext.load(checkpoint="hf-hub:someone/net")


@pytest.mark.parametrize("cause", ["no name service", "offline mode", "download"])
def test_offline_tells_where_to_put_the_file(cause, hub, monkeypatch):
    def fail(*_, **__):
        raise OSError("Name or service not known")

    if cause == "no name service":
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setattr(socket, "getaddrinfo", fail)
    elif cause == "offline mode":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(RecNextError, match=r"cannot fetch suous/recnext_m1.*--checkpoint FILE") as caught:
        recnext.load("recnext_m1", pretrained=True)
    assert "\n" not in str(caught.value)


def test_missing_paths_are_not_hub_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "real.pth").touch()
    with pytest.raises(RecNextError, match=r"no checkpoint runs/typo\.pth: .*runs has real\.pth"):
        recnext.load(checkpoint="runs/typo.pth")
    with pytest.raises(RecNextError, match=r"no checkpoint other/x\.safetensors.*\(other does not exist\)"):
        recnext.load(checkpoint="other/x.safetensors")
    with pytest.raises(RecNextError, match=r"no checkpoint \./runs/a: no such file"):
        recnext.load(checkpoint="./runs/a")


@pytest.mark.parametrize("here", [True, False])
def test_a_run_folder_that_is_not_there_is_no_matter_of_the_hub(here, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if here:
        (tmp_path / "runs").mkdir()
    with pytest.raises(RecNextError, match=r"^no checkpoint runs/typo: no such file or run folder") as caught:
        recnext.load(checkpoint="runs/typo")
    assert ("on the hub it would be hf-hub:runs/typo" in str(caught.value)) == here
    assert bool(hub[1]) != here


def test_not_a_hub_id(hub, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(RecNextError, match="is no hub id: expected owner/name"):
        recnext.load(checkpoint="hf-hub:a/b/c")
