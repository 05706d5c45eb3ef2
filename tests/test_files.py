import os
import stat

import pytest

from recnext.errors import RecNextError
from recnext.files import MARK, require_output, require_outputs, write_atomically


def refused(path, **options):
    with pytest.raises(RecNextError) as caught:
        require_output(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_new_file_in_a_folder(tmp_path):
    assert require_output(str(tmp_path / "a.png")) == tmp_path / "a.png"
    assert "there is no folder" in refused(tmp_path / "no" / "a.png")


def test_another_file_needs_overwrite_and_an_own_one_does_not(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mine")
    assert "was not written by this command: give another output, or --overwrite it" in refused(path)
    assert "already exists" in refused(path, mark=None)
    require_output(path, overwrite=True)
    for content in (MARK, "x" * 200_000 + MARK, MARK + "x" * 200_000):
        path.write_text(content)
        require_output(path)
    path.write_text("image,rank\n1,2\n")
    require_output(path, mark="image,rank")
    assert "was not written" in refused(path, mark="image,index")


def test_an_input_is_never_an_output(tmp_path):
    path = tmp_path / "a.png"
    path.write_text(MARK)
    os.link(path, tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert "is read by this command" in refused(tmp_path / name, overwrite=True, inputs=["none", str(path)])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_devices_pipes_and_folders_are_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a folder"), (os.devnull, "a device")):
        assert f"is {kind}, which is never replaced" in refused(path, overwrite=True)
    with pytest.raises(RecNextError, match="is a pipe"):
        write_atomically(tmp_path / "pipe", b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "target").write_text(MARK)
    for name, target in (("link", "target"), ("dangling", "none")):
        link = tmp_path / name
        link.symlink_to(target)
        assert f"is a link to {target}" in refused(link)
        write_atomically(require_output(link, overwrite=True), b"new")
        assert not link.is_symlink()
    assert (tmp_path / "target").read_text() == MARK


def test_several_in_a_folder_that_may_not_be_there_yet(tmp_path):
    require_outputs(tmp_path / "new", ["a", "b"])
    (tmp_path / "b").write_text("mine")
    with pytest.raises(RecNextError, match="was not written by this command"):
        require_outputs(tmp_path, ["a", "b"])
    with pytest.raises(RecNextError, match="is a file: --output expects a folder"):
        require_outputs(tmp_path / "b", ["a"])
    with pytest.raises(RecNextError, match=r"new\.png is the name of a file: --output expects a folder"):
        require_outputs(tmp_path / "new.png", ["a"])
