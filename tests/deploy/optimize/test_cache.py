"""Files of compiled networks: whole or absent, and never a failure of the caller."""

import logging
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from recnext.deploy.optimize import cache as cache_module
from recnext.deploy.optimize.cache import Cache, cache_folder, fingerprint


def test_what_was_written_is_read(tmp_path):
    Cache("key", tmp_path).write("name", {"a": b"12", "b": b""})
    assert Cache("key", tmp_path).read("name") == {"a": b"12", "b": b""}
    assert Cache("other", tmp_path).read("name") is None


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:60] + b"x" + data[61:], lambda _: b""])
def test_a_damaged_file_is_dropped_with_one_line(tmp_path, caplog, damage):
    stored = Cache("key", tmp_path)
    stored.write("name", {"a": bytes(100)})
    path = tmp_path / "key" / "name.recnext"
    path.write_bytes(damage(path.read_bytes()))
    assert stored.read("name") is None
    assert not path.exists()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "damaged" in caplog.text


def test_an_entry_of_another_program_is_dropped_with_one_line(tmp_path, caplog):
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "name.recnext").write_bytes(b"PK\x03\x04 of another program")
    assert Cache("key", tmp_path).read("name") is None
    (record,) = caplog.records
    assert record.getMessage().endswith("is of another program or version, or damaged; compiling anew")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files")
def test_a_folder_that_others_may_write_is_not_used(tmp_path, caplog, monkeypatch):
    Cache("key", tmp_path / "own").write("name", {"a": b"1"})
    assert (tmp_path / "own").stat().st_mode & 0o077 == 0
    (tmp_path / "own").chmod(0o777)
    shared = Cache("key", tmp_path / "own")
    assert shared.read("name") is None
    shared.write("other", {"a": b"1"})
    assert [path.name for path in (tmp_path / "own" / "key").iterdir()] == ["name.recnext"]
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert Cache("key", tmp_path).read("name") is None
    first, second = (record.getMessage() for record in caplog.records)
    assert "is not used: everyone may write it; set RECNEXT_CACHE" in first
    assert "is not used: it belongs to another user" in second


def test_a_folder_that_cannot_be_made_costs_one_line(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    Cache("key", blocked).write("name", {"a": b"1"})
    assert len(caplog.records) == 1
    assert "cannot keep" in caplog.text


def test_the_least_recently_used_files_go_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "LIMIT", 2500)
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "other.bin").write_bytes(bytes(9000))  # of another program with the same folder
    for age, name in enumerate(("old", "middle", "new")):
        Cache("key", tmp_path).write(name, {"a": bytes(900)})
        path = tmp_path / "key" / f"{name}.recnext"
        os.utime(path, (1000 + age, 1000 + age))
    Cache("key", tmp_path).write("newest", {"a": bytes(900)})
    assert sorted(path.stem for path in (tmp_path / "key").iterdir()) == ["new", "newest", "other"]


def test_the_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RECNEXT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("RECNEXT_CACHE", "off")
    assert cache_folder() is None
    monkeypatch.delenv("RECNEXT_CACHE")
    for platform, variable, expected in (
        ("linux", "XDG_CACHE_HOME", tmp_path / "recnext"),
        ("win32", "LOCALAPPDATA", tmp_path / "recnext" / "Cache"),
    ):
        monkeypatch.setattr(cache_module.sys, "platform", platform)
        monkeypatch.setenv(variable, str(tmp_path))
        assert cache_folder() == expected
    monkeypatch.setattr(cache_module.sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "recnext"


def test_fingerprints_tell_weights_layers_and_details_apart():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    other = nn.Sequential(model[0], nn.GELU())
    first = fingerprint(model, ["torch 1"])
    assert fingerprint(model, ["torch 1"]) == first
    assert fingerprint(model, ["torch 2"]) != first
    assert fingerprint(other, ["torch 1"]) != first
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1e-6
    assert fingerprint(model, ["torch 1"]) != first
