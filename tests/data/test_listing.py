"""Which files count: one rule for names, links and endings."""

import logging
import os
import shutil
import unicodedata

import pytest
from PIL import Image

from recnext.data.listing import Survey, count_images, find_file, find_images, is_ignored_path, walk
from recnext.errors import RecNextError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def under(root, found):
    return [name.removeprefix(f"{root}/") for name in found]


def test_found_in_order_and_hidden_left_out(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a.webp", "notes.txt", ".hidden/x.png", "b/.x.png", "c.dat"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [name.removeprefix(f"{tmp_path}/") for name in find_images([str(tmp_path)])]
    assert found == ["a.webp", "b/1.png", "b/2.JPG"]
    inputs = [
        str(tmp_path / "c.dat"),
        str(tmp_path / "*" / "*.png"),
        "https://example.org/x",
        str(tmp_path / "gone.png"),
    ]
    found = [name.removeprefix(f"{tmp_path}/") for name in find_images(inputs)]
    assert found == ["c.dat", "b/1.png", "https://example.org/x", "gone.png"]
    assert count_images(inputs) == 4
    assert count_images([str(tmp_path / "**" / "*.JPG")]) == 1


def test_file_with_a_pattern_character_in_its_name(tmp_path):
    (tmp_path / "a[1].png").touch()
    assert list(find_images([str(tmp_path / "a[1].png")])) == [str(tmp_path / "a[1].png")]


def test_nothing_found_is_said_at_once(tmp_path):
    with pytest.raises(RecNextError, match="no images are given"):
        find_images([])
    with pytest.raises(RecNextError, match=r"no images in .*\.jpg"):
        find_images([str(tmp_path)])
    with pytest.raises(RecNextError, match=r"no images in .*\*\.png"):
        find_images([str(tmp_path / "*.png")])
    with pytest.raises(RecNextError, match=r"there is no file or folder .*gone"):
        find_images([str(tmp_path / "gone")])


def test_files_of_operating_systems_are_ignored_and_counted(tmp_path):
    touch(tmp_path, "a/0.jpg", "a/._0.jpg", "__MACOSX/a/._0.jpg", "@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg", ".DS_Store")
    touch(tmp_path, "Thumbs.db", "a/THUMBS.DB", ".cache/x.jpg", "notes.txt")
    survey = Survey()
    assert under(tmp_path, walk(str(tmp_path), survey)) == ["a/0.jpg"]
    assert survey.ignored == {"._*": 1, "__MACOSX": 1, "@eaDir": 1, ".*": 2, "Thumbs.db": 1, "THUMBS.DB": 1}
    assert survey.others == {".txt": 1}
    assert under(tmp_path, find_images([str(tmp_path / "**" / "*.jpg")])) == ["a/0.jpg"]
    assert is_ignored_path("./__MACOSX/cat/0.jpg")
    assert not is_ignored_path("./cat/0.jpg")


def test_links_are_followed_and_circles_left_out(tmp_path, caplog):
    touch(tmp_path, "else/x/1.png", "data/a/0.png")
    os.symlink(tmp_path / "else", tmp_path / "data" / "b")
    os.symlink(tmp_path / "data", tmp_path / "data" / "a" / "again")
    os.symlink(tmp_path / "gone.png", tmp_path / "data" / "a" / "gone.png")
    os.symlink("self", tmp_path / "data" / "self")
    survey = Survey()
    found = under(tmp_path / "data", walk(str(tmp_path / "data"), survey))
    assert found == ["a/0.png", "a/gone.png", "b/x/1.png"]
    assert under(tmp_path / "data", survey.links) == ["b", "a/again"]
    assert under(tmp_path / "data", survey.loops) == ["a/again"]
    os.symlink(tmp_path / "data", tmp_path / "data" / "once_more")  # 2 to the power of 40 paths, were they walked
    assert under(tmp_path / "data", find_images([str(tmp_path / "data" / "**" / "*.png")])) == found
    assert under(tmp_path / "data", find_images([str(tmp_path / "data" / "**" / "x" / "?.png")])) == ["b/x/1.png"]
    os.remove(tmp_path / "data" / "once_more")
    with caplog.at_level(logging.WARNING, "recnext"):
        assert len(list(find_images([str(tmp_path / "data")]))) == 3
    assert "1 links left out that lead back to a folder above" in caplog.text


def test_what_is_no_file_is_left_out(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    touch(tmp_path, "0.png")
    assert under(tmp_path, find_images([str(tmp_path)])) == ["0.png"]


def test_every_ending_that_is_read_counts_and_other_images_are_named(tmp_path, caplog):
    for kind, ending in (("JPEG", "jfif"), ("GIF", "gif"), ("JPEG2000", "jp2"), ("AVIF", "avif"), ("TIFF", "TIF")):
        Image.new("RGB", (4, 4)).save(tmp_path / f"0.{ending}", format=kind)
    touch(tmp_path, "1.jxl", "2.jxl", "3.NEF", "4.txt")
    with caplog.at_level(logging.WARNING, "recnext"):
        found = under(tmp_path, find_images([str(tmp_path)]))
    assert found == ["0.TIF", "0.avif", "0.gif", "0.jfif", "0.jp2"]
    assert "image files left out, which cannot be read here: 2 .jxl, 1 .nef" in caplog.text
    shutil.rmtree(tmp_path / "only", ignore_errors=True)
    touch(tmp_path, "only/1.psd")
    with pytest.raises(RecNextError, match=r"no images in .*only: 1 \.psd files cannot be read here, expected files"):
        find_images([str(tmp_path / "only")])


def test_a_listed_file_is_found_in_either_form_of_unicode(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD"))
    touch(tmp_path, decomposed)
    assert find_file(tmp_path, composed) == tmp_path / decomposed
    assert find_file(tmp_path, "gone.png") == tmp_path / "gone.png"
