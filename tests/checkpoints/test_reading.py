import io
import os
import pickle
import zipfile

import numpy as np
import pytest
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
