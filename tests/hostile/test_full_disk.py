"""A disk that is full, for real: a small file system in memory. What was there stays, and the error names the place."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import recnext
from checkpoints.files import network
from cli.command import run
from recnext.files import write_atomically


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """256 KiB, of which all but 8 KiB are taken."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine mounts nothing")
    (place / "old").write_bytes(bytes(248 * 1024))
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_write_that_does_not_fit_leaves_the_old_file(disk: Path):
    (disk / "old").write_bytes(b"whole")
    (disk / "filler").write_bytes(bytes(240 * 1024))
    with pytest.raises(OSError, match="No space left") as failed:
        write_atomically(disk / "old", bytes(64 * 1024))
    assert failed.value.filename == str(disk / "old")
    assert (disk / "old").read_bytes() == b"whole"
    assert sorted(path.name for path in disk.iterdir()) == ["filler", "old"]


@pytest.mark.parametrize("command", ["fuse", "convert"])
def test_commands_say_so_in_one_line(disk: Path, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    weights = recnext.save(network("test_recnext_m"), tmp_path / "x.safetensors")
    status, _, line = run(capsys, command, weights, disk / "new.safetensors")
    assert status == 1
    assert line.count("\n") == 1
    assert "No space left" in line
    assert str(disk) in line
    assert [path.name for path in disk.iterdir()] == ["old"]
