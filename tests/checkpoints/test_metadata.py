import errno
import hashlib
import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from recnext.checkpoints.metadata import CheckpointMetadata, read_metadata, save_checkpoint
from recnext.errors import RecNextError
from recnext.files import write_atomically

METADATA = CheckpointMetadata(
    model="recnext_m1",
    num_classes=2,
    model_args={"depths": [1, 1, 3, 1], "drop_path_rate": 0.1},
    class_names=("chat", "ânesse"),
    input_size=(3, 96, 64),
    epoch=0,
    fused=True,
)


def test_round_trip_keeps_tensors_and_every_field(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"b": torch.arange(6.0).reshape(2, 3).t(), "a": torch.tensor(3, dtype=torch.int64)}
    save_checkpoint(path, tensors, METADATA)
    loaded = load_file(path)
    assert set(loaded) == {"a", "b"}
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)
    read = read_metadata(path)
    assert read is not None
    assert read.to_header() == METADATA.to_header()
    assert read.class_names == ("chat", "ânesse")
    assert read.epoch == 0


def test_keys_on_disk_are_the_documented_ones(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, METADATA)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        header = file.metadata()
    assert header["recnext.model"] == "recnext_m1"
    assert header["recnext.fused"] == "1"
    assert header["recnext.num_classes"] == "2"
    assert header["recnext.input_size"] == "[3, 96, 64]"
    assert header["recnext.class_names"] == '["chat", "ânesse"]'


def test_equal_saves_make_equal_files_that_transformers_reads(tmp_path):
    tensors = {key: torch.zeros(n + 1) for n, key in enumerate("zyxab")}
    files = []
    for name in "ab":
        save_checkpoint(tmp_path / name, tensors, METADATA)
        files.append((tmp_path / name).read_bytes())
    assert hashlib.sha256(files[0]).digest() == hashlib.sha256(files[1]).digest()
    size = int.from_bytes(files[0][:8], "little")
    header = json.loads(files[0][8 : 8 + size])["__metadata__"]
    assert size % 8 == 0
    assert list(header) == sorted(header)
    assert header["format"] == "pt"


def test_unknown_class_names_and_epoch_are_absent():
    header = CheckpointMetadata(model="m", num_classes=3).to_header()
    assert not {"recnext.class_names", "recnext.epoch"} & set(header)
    assert CheckpointMetadata.from_header(header).class_names is None


def test_foreign_file_has_no_metadata_and_damaged_ones_are_named(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign, {"format": "pt"})
    assert read_metadata(foreign) is None
    (tmp_path / "text.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(RecNextError, match=r"text\.safetensors is not a readable"):
        read_metadata(tmp_path / "text.safetensors")
    with pytest.raises(RecNextError, match=r"recnext\.num_classes"):
        CheckpointMetadata.from_header({"recnext.model": "m"})
    with pytest.raises(RecNextError, match="is not JSON"):
        CheckpointMetadata.from_header({"recnext.model": "m", "recnext.num_classes": "{"})


def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_written_file_follows_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        write_atomically(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
