import json
import shutil

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
    assert "error: the same image in two splits (1)" in out


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
