import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import recnext
from checkpoints.files import image, network, published_fused_file, training_file
from recnext.errors import RecNextError


class Attack:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "attacked"),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_that_would_run_a_program_is_refused_and_named(zipped, tmp_path):
    content = {"model": network().state_dict(), "args": Attack(tmp_path)}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(RecNextError, match=rf"x\.pth needs the Python object {os.name}\.mkdir.*refused"):
        recnext.load(checkpoint=tmp_path / "x.pth")
    assert not (tmp_path / "attacked").exists()


def test_whole_pickled_network_is_refused(tmp_path):
    torch.save(network(), tmp_path / "x.pth")
    with pytest.raises(RecNextError, match=r"needs the Python object recnext\.nn\.models\.\w+\.\w+.*state_dict"):
        recnext.load(checkpoint=tmp_path / "x.pth")


def test_plain_pickle_of_arrays_is_refused(tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"a": np.ones(3)}))
    with pytest.raises(RecNextError, match=r"x\.pth (needs the Python object|is no file of tensors)"):
        recnext.load(checkpoint=tmp_path / "x.pth")


def test_old_format_without_zip(tmp_path):
    torch.save({"model": network().state_dict()}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert recnext.load(checkpoint=tmp_path / "x.pth").num_classes == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html>Sign in</html>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is no weight file"),
        (b"PK\x03\x04" + bytes(100), "is damaged or cut off"),
        (b"\x80\x02}q\x00(X\x05", "is damaged or cut off|is no file of tensors"),
        ((50).to_bytes(8, "little") + b'{"a": nonsense', "is not a readable safetensors file"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors", "pt"])
def test_what_is_no_weight_file(content, message, suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    if suffix == "pth" and message == "is no weight file":
        message = "is no file of tensors"
    with pytest.raises(RecNextError, match=rf"x\.{suffix} ({message})") as caught:
        recnext.load("test_recnext_m", checkpoint=path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pth", "pt", "safetensors", "old"])
@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_cut_off_files(kind, share, tmp_path):
    path = tmp_path / "x"
    if kind == "pth":
        training_file(path, network())
    elif kind == "pt":
        published_fused_file(path, network())
    elif kind == "old":
        torch.save(network().state_dict(), path, _use_new_zipfile_serialization=False)
    else:
        save_file(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(RecNextError, match=r"(is damaged or cut off|is no file of tensors|not a readable)"):
        recnext.load("test_recnext_m", checkpoint=path)


def test_other_contents_say_what_they_hold(tmp_path):
    for content, held in (({"epoch": 3}, "a mapping with epoch"), ([1, 2], "a list"), ({}, "a mapping with nothing")):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(RecNextError, match=f"holds {held}.*not a state dict"):
            recnext.load("test_recnext_m", checkpoint=tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(RecNextError, match=r"archive without weights \(readme\.txt\)"):
        recnext.load(checkpoint=tmp_path / "x.zip")


def test_frozen_torchscript_has_no_names(tmp_path):
    program = torch.jit.freeze(torch.jit.trace(recnext.fuse(network()), image()))
    program.save(str(tmp_path / "x.pt"))
    with pytest.raises(RecNextError, match="frozen TorchScript"):
        recnext.load(checkpoint=tmp_path / "x.pt")


def test_exported_program(tmp_path):
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    (tmp_path / "x.pt2").write_bytes(buffer.getvalue())
    with pytest.raises(RecNextError, match=r"torch\.export program"):
        recnext.load(checkpoint=tmp_path / "x.pt2")


def load_state(content, path):
    torch.save(content, path)
    return recnext.load(checkpoint=path).head.head.linear.bias


@pytest.mark.parametrize("stray", [torch.tensor(76.1), torch.arange(5), {"a": 1}])
def test_a_tensor_next_to_the_weights_is_none_of_them(stray, tmp_path):
    state = network().state_dict()
    for content in ({"state_dict": state, "best_acc1": stray}, {"rng": stray, "model": {"state_dict": state}}):
        assert torch.equal(load_state(content, tmp_path / "x.pth"), state["head.head.linear.bias"])


@pytest.mark.parametrize(
    "prefix", ["net.", "backbone.", "encoder.", "timm_model.", "anything.at.all.", "model.module."]
)
def test_any_prefix_that_all_names_have(prefix, tmp_path):
    state = network().state_dict()
    found = load_state({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / "x.CKPT")
    assert torch.equal(found, state["head.head.linear.bias"])


def test_other_families_lose_the_usual_prefixes(tmp_path):
    model = timm.create_model("test_resnet")
    torch.save({f"net.backbone.{key}": value for key, value in model.state_dict().items()}, tmp_path / "x.pth")
    assert torch.equal(
        recnext.load("test_resnet", checkpoint=tmp_path / "x.pth").conv1[0].weight, model.conv1[0].weight
    )


def test_a_file_of_several_modules_gives_the_network_and_says_what_is_left(tmp_path, caplog):
    state = network().state_dict()
    content = {**{f"model.{key}": value for key, value in state.items()}, "criterion.weight": torch.ones(3)}
    assert torch.equal(load_state({"state_dict": content}, tmp_path / "x.ckpt"), state["head.head.linear.bias"])
    assert "criterion left out, no part of the network model" in caplog.text
    content |= {f"student.{key}": value for key, value in state.items()}
    assert torch.equal(load_state(content, tmp_path / "x.ckpt"), state["head.head.linear.bias"])  # model. is the usual
    both = {f"{name}.{key}": value for name in ("student", "teacher") for key, value in state.items()}
    with pytest.raises(RecNextError, match=r"holds several networks, student\., teacher\."):
        load_state(both, tmp_path / "x.ckpt")


@pytest.mark.parametrize("suffix", ["PTH", "SAFETENSORS", "PT", "BIN"])
def test_suffixes_in_capitals(suffix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for path in (tmp_path / f"x.{suffix}", tmp_path / "runs" / f"x.{suffix}"):
        torch.save(network().state_dict(), path)
    assert recnext.load(checkpoint=f"runs/x.{suffix}").num_classes == 7
    with pytest.raises(RecNextError, match=rf"no checkpoint other/x\.{suffix}: no such file"):
        recnext.load(checkpoint=f"other/x.{suffix}")
