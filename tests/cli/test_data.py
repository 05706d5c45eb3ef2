import io
import json
import shutil
import tarfile

import pytest

from cli.command import fails, run, run_json
from recnext.study.demo.digits import write_folders


@pytest.fixture
def tree(tmp_path):
    write_folders(tmp_path / "digits", per_class=3)
    return tmp_path / "digits"


def test_a_sound_tree_has_no_errors(tree, capsys):
    report = run_json(capsys, "data", "check", tree, "--few=2")
    assert report["errors"] is False
    assert report["images"] == {"train": 30, "val": 30}
    assert report["class_sizes"]["train"] == {str(digit): 3 for digit in range(10)}
    assert report["near_empty_classes"] == report["unreadable"] == report["mistakes"] == []
    status, out, _ = run(capsys, "data", "check", tree)
    assert status == 0
    assert "no errors" in out
    assert "fewer than 10 images (10)" in out


def test_damage_duplicates_and_layout_are_found(tree, capsys):
    zero = sorted((tree / "train" / "0").iterdir())
    zero[0].write_bytes(zero[0].read_bytes()[:50])
    shutil.copy(zero[1], tree / "train" / "0" / "again.png")
    leak = shutil.copy(zero[2], tree / "val" / "0" / "leak.png")
    two = shutil.copy(next((tree / "train" / "4").iterdir()), tree / "train" / "7" / "two.png")
    (tree / "train" / "extra").mkdir()
    report = run_json_with_errors(capsys, "data", "check", tree)
    assert [entry["file"] for entry in report["unreadable"]] == [str(zero[0])]
    assert report["duplicates_within_a_split"] == [[str(zero[1]), str(tree / "train" / "0" / "again.png")]]
    assert report["duplicates_across_splits"] == [[str(zero[2]), str(leak)]]
    assert str(two) in report["duplicates_in_different_classes"][0]
    assert report["mistakes"] == ["only train has the class extra", "train has no images of extra"]
    status, out, _ = run(capsys, "data", "check", tree)
    assert status == 1
    assert "error: cannot be read (1)" in out
    assert "warning: the same image in two splits, which makes accuracy look better than it is (1)" in out


def run_json_with_errors(capsys, *arguments):
    status, out, _ = run(capsys, *arguments, "--json")
    assert status == 1
    return json.loads(out)


def test_class_folders_alone_and_mistakes(tree, tmp_path, capsys):
    assert run_json(capsys, "data", "check", tree / "train")["images"] == {"": 30}
    assert "does not exist" in fails(capsys, "data", "check", tmp_path / "none")
    assert "inside other files" in fails(capsys, "data", "check", f"tar:{_tars(tree, tmp_path)}")
    assert "holds no shards" in fails(capsys, "data", "index", tree)
    assert "there is no file" in fails(capsys, "data", "index", tree, "--class_names=none.txt")


def _tars(tree, root):
    for split in ("train", "val"):
        shutil.make_archive(str(root / split), "tar", tree / split)
    return root


def test_what_is_left_out_is_counted_by_kind(tree, tmp_path, capsys):
    """A tree as macOS, a NAS and a camera left it, reached through links."""
    zero = tree / "train" / "0"
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "photo.NEF", "notes.txt"):
        (zero / name).write_bytes(b"\0\5\x16\7")
    (tree / "train" / "__MACOSX" / "0").mkdir(parents=True)
    shutil.move(tree / "val" / "1", tmp_path / "ones")
    (tree / "val" / "1").symlink_to(tmp_path / "ones")
    (zero / "again").symlink_to(tree / "train")
    report = run_json(capsys, "data", "check", tree, "--few=2")
    assert report["images"] == {"train": 30, "val": 30}
    assert report["ignored"] == {"._*": 1, ".*": 1, "Thumbs.db": 1, "__MACOSX": 1}
    assert report["other_files"] == {".nef": 1, ".txt": 1}
    assert report["links"] == [str(tree / "val" / "1"), str(zero / "again")]
    assert report["links_in_a_circle"] == [str(zero / "again")]
    status, out, _ = run(capsys, "data", "check", tree)
    assert status == 0
    assert "left out, no images here (2)" in out
    assert "links that lead back to a folder above, left out (1)" in out


def test_text_files_of_windows_are_read_and_others_named(tree, tmp_path, capsys):
    names = tmp_path / "names.txt"
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        for name, content in (("a.cls", b"1"), ("a.png", next((tree / "train" / "0").iterdir()).read_bytes())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    names.write_bytes(b"\xef\xbb\xbfblue\r\nred\r\n")
    run(capsys, "data", "index", tmp_path, f"--class-names={names}")
    index = tmp_path / "_info.json"
    assert json.loads(index.read_text())["class_names"] == ["blue", "red"]
    (tmp_path / "mine").write_text("mine")
    index.unlink()
    index.symlink_to(tmp_path / "mine")
    assert "is a link to" in fails(capsys, "data", "index", tmp_path)
    run(capsys, "data", "index", tmp_path, "--overwrite")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not index.is_symlink()
    names.write_bytes("bl\xe4u\nred\n".encode("latin-1"))
    assert "is no UTF-8 text" in fails(capsys, "data", "index", tmp_path, f"--class-names={names}")
