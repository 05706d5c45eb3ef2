import json
import logging

import pytest
from PIL import Image

from recnext.files import MARK
from recnext.tasks.prediction import FreeNames, json_list, save_png

BOTH = (".png", "_mask.png")


def names(paths):
    return [path.name for path in paths]


def test_no_two_sources_share_a_file(tmp_path):
    """A mask may be named like another source's picture, and file systems may not tell letters from capitals."""
    free = FreeNames(tmp_path, ["a.jpg", "b/a.png", "A.png", "a_mask.png"])
    assert names(free.paths("a.jpg", BOTH)) == ["a.png", "a_mask.png"]
    assert names(free.paths("b/a.png", BOTH)) == ["a_2.png", "a_2_mask.png"]
    assert names(free.paths("A.png", BOTH)) == ["A_3.png", "A_3_mask.png"]
    assert names(free.paths("a_mask.png", BOTH)) == ["a_mask_2.png", "a_mask_2_mask.png"]
    assert names(free.paths("https://x.org/cafe\u0301.jpg?size=1", BOTH[:1])) == ["cafe\u0301.png"]
    assert names(free.paths("caf\u00e9.jpg", BOTH[:1])) == ["caf\u00e9_2.png"]


def test_images_and_files_of_others_are_not_replaced(tmp_path, caplog):
    for name in ("photo.png", "mine.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    free = FreeNames(tmp_path, [str(tmp_path / "photo.png")], overwrite=True)
    with caplog.at_level(logging.WARNING, logger="recnext"):
        assert names(free.paths(str(tmp_path / "photo.png"), BOTH)) == ["photo_2.png", "photo_2_mask.png"]
    assert "photo.png is not replaced: photo_2.png is written" in caplog.text
    assert names(free.paths("mine.jpg", BOTH)) == ["mine.png", "mine_mask.png"]
    assert names(FreeNames(tmp_path, []).paths("mine.jpg", BOTH)) == ["mine_2.png", "mine_2_mask.png"]


def test_pictures_of_an_earlier_run_are_replaced(tmp_path):
    save_png(Image.new("RGB", (4, 4)), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["Software"] == MARK
    assert names(FreeNames(tmp_path, []).paths("a.jpg", BOTH[:1])) == ["a.png"]


def test_a_list_appears_once_it_is_complete(tmp_path):
    path = tmp_path / "a.json"
    with json_list(path) as add:
        add({"score": float("nan"), "name": "caf\udce9"})
        assert not path.exists()
        add([1, 2])
    assert json.loads(path.read_text(encoding="utf-8")) == [{"score": None, "name": "caf\udce9"}, [1, 2]]
    with pytest.raises(TypeError), json_list(path) as add:
        add(object())
    assert len(json.loads(path.read_text())) == 2
    with json_list(path):
        pass
    assert json.loads(path.read_text()) == []
    assert names(tmp_path.iterdir()) == ["a.json"]
