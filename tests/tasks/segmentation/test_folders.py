import unicodedata

import numpy as np
import pytest
from PIL import Image

from recnext.data.images import UnreadableImageError
from recnext.errors import RecNextError
from recnext.study.demo.shape_folders import ShapeCollection, write_ade
from recnext.study.demo.shapes import CLASS_NAMES, draw_scene
from recnext.tasks.segmentation.data import open_mask_folders, read_labels

PLAIN = ("train", "val")


@pytest.fixture
def plain(tmp_path):
    for split in PLAIN:
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for name in "ab":
            Image.new("RGB", (8, 6), (10, 20, 30)).save(tmp_path / split / "images" / f"{name}.jpg")
            write_mask(tmp_path / split / "masks" / f"{name}.png", [[0, 1, 2, 255]] * 6, repeat=2)
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    return tmp_path


def write_mask(path, values, *, repeat=1, dtype=np.uint8):
    Image.fromarray(np.repeat(np.array(values, dtype=dtype), repeat, axis=1)).save(path)


def test_plain_folders(plain):
    folders = open_mask_folders(plain)
    assert (folders.layout, folders.class_names) == ("plain", ("sky", "road", "car"))
    assert (len(folders.train), len(folders.val)) == (2, 2)
    image, labels = folders.train[0]
    assert image.shape == (3, 6, 8)
    assert labels.tolist() == [[0, 0, 1, 1, 2, 2, 255, 255]] * 6
    assert folders.train.name(0).endswith("a.jpg")


def test_ade_layout_counts_from_one(tmp_path):
    write_ade(tmp_path, ShapeCollection(train=1, val=1, size=(32, 40), seed=4))
    folders = open_mask_folders(tmp_path)
    assert folders.layout == "ade"
    assert folders.class_names == ("background", *CLASS_NAMES)
    _, labels = folders.val[0]
    assert np.array_equal(labels.numpy(), draw_scene(0, seed=9, size=(32, 40)).semantic)
    path = folders.val.pairs[0][1]
    write_mask(path, [[0, 1, 6, 255]] * 32, repeat=10)
    assert sorted(np.unique(folders.val[0][1].numpy()).tolist()) == [0, 5, 255]


def test_object_info_names_the_classes(plain):
    (plain / "classes.txt").unlink()
    (plain / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t.2\t9\t9\t1\twall\n2\t.1\t9\t9\t1\tbuilding, edifice\n"
    )
    assert open_mask_folders(plain).class_names == ("wall", "building")


def test_classes_may_be_numbers(plain):
    (plain / "classes.txt").unlink()
    assert open_mask_folders(plain, num_classes=3).class_names == ("0", "1", "2")


@pytest.mark.parametrize(("mode", "dtype"), [("L", np.uint8), ("P", np.uint8), ("I;16", np.uint16), ("I", np.int32)])
def test_every_kind_of_index_mask(tmp_path, mode, dtype):
    values = np.array([[0, 1], [2, 255]], dtype=dtype)
    image = Image.fromarray(values)
    if mode == "P":
        image = image.convert("P")
        image.putdata([0, 1, 2, 255])
    assert image.mode == mode
    path = tmp_path / ("mask.tif" if mode == "I" else "mask.png")
    image.save(path)
    assert read_labels(path, layout="plain", num_classes=3).tolist() == values.tolist()


def test_what_is_wrong_with_a_sample_is_told_in_one_line(plain):
    folders = open_mask_folders(plain)

    def message(index=0):
        with pytest.raises(UnreadableImageError) as caught:
            folders.train[index]
        assert "\n" not in str(caught.value)
        return str(caught.value)

    mask = folders.train.pairs[0][1]
    write_mask(mask, [[0, 0, 0, 0, 0, 0, 0, 0]] * 4 + [[0, 0, 0, 7, 0, 0, 0, 0]] * 2)
    assert message() == (
        f"mask {mask} holds label 7 at row 4, column 3: expected 0..2 for 3 classes, or 255 for pixels that count "
        "nowhere"
    )
    write_mask(mask, [[0, 1]])
    assert message() == f"mask {mask} is 2x1 pixels, its image {folders.train.name(0)} 8x6"
    Image.new("RGB", (8, 6)).save(mask)
    assert "is RGB: expected one channel of class numbers" in message()
    mask.write_bytes(b"no image")
    assert f"cannot read mask {mask}" in message()
    mask.unlink()
    assert f"cannot read mask {mask}" in message()
    image = folders.train.pairs[1][0]
    image.write_bytes(image.read_bytes()[:200])
    assert f"cannot read image {image}" in message(1)


def test_ade_labels_out_of_range_are_named_as_stored(tmp_path):
    write_mask(tmp_path / "m.png", [[0, 3, 4]])
    with pytest.raises(UnreadableImageError, match=r"holds label 4 at row 0, column 2: expected 1\.\.3 for 3 classes"):
        read_labels(tmp_path / "m.png", layout="ade", num_classes=3)


def test_what_is_wrong_with_a_tree(plain, tmp_path):
    def message(**options):
        with pytest.raises(RecNextError) as caught:
            open_mask_folders(plain, **options)
        return str(caught.value)

    assert "names 3 classes, not 5" in message(num_classes=5)
    missing = plain / "val" / "masks" / "b.png"
    missing.rename(plain / "b.png")
    assert message().startswith(f"no mask in {plain / 'val' / 'masks'} for {plain / 'val' / 'images' / 'b.jpg'}")
    (plain / "classes.txt").unlink()
    assert "does not name its classes" in message()
    (plain / "classes.txt").write_text("one\n")
    assert "has 1 classes: expected 2 to 254" in message()
    (plain / "classes.txt").write_text("sky\nroad\ncar\n")
    (plain / "val").rename(plain / "test")
    assert f"has no folder val/images: expected {plain}/" in message()
    with pytest.raises(RecNextError, match="holds no images with masks"):
        open_mask_folders(plain / "train" / "images")
    with pytest.raises(RecNextError, match="does not exist"):
        open_mask_folders(plain / "nowhere")


def test_masks_of_0_and_255_need_the_number_of_each_class(plain):
    (plain / "classes.txt").write_bytes(b"\xef\xbb\xbfbackground\r\nobject\r\n")
    for mask in plain.rglob("*.png"):
        write_mask(mask, [[0, 255, 0, 0]] * 6, repeat=2)
    with pytest.raises(RecNextError, match=r"hold 0 and 255 alone.*no pixel is 'object'.*--mask-values \[0,255\]"):
        open_mask_folders(plain)
    folders = open_mask_folders(plain, values=(0, 255))
    assert folders.class_names == ("background", "object")
    assert folders.train[0][1].tolist() == [[0, 0, 1, 1, 0, 0, 0, 0]] * 6
    write_mask(folders.train.pairs[0][1], [[0, 7]] * 6, repeat=4)
    with pytest.raises(UnreadableImageError, match=r"label 7 at row 0, column 4: expected 0, 255 for 2 classes$"):
        folders.train[0]
    for values, message in (((0, 0), "are not 2 different numbers"), ((0, 1, 2), "are not 2"), ((0, -1), "from 0 to")):
        with pytest.raises(RecNextError, match=message):
            open_mask_folders(plain, values=values)


def test_masks_without_255_and_masks_with_any_class_are_taken_as_they_are(plain):
    for mask in plain.rglob("*.png"):
        write_mask(mask, [[0, 0, 0, 0]] * 6, repeat=2)
    assert len(open_mask_folders(plain).val) == 2
    write_mask(plain / "train" / "masks" / "b.png", [[0, 1, 255, 255]] * 6, repeat=2)
    write_mask(plain / "train" / "masks" / "a.png", [[0, 0, 255, 255]] * 6, repeat=2)
    assert len(open_mask_folders(plain).train) == 2


def test_two_masks_or_two_images_of_one_name_are_refused(plain):
    write_mask(plain / "val" / "masks" / "b.bmp", [[0, 1, 2, 255]] * 6, repeat=2)
    with pytest.raises(RecNextError, match=r"masks/b\.bmp and .*masks/b\.png have one name"):
        open_mask_folders(plain)
    (plain / "val" / "masks" / "b.bmp").unlink()
    Image.new("RGB", (8, 6)).save(plain / "val" / "images" / "b.png")
    with pytest.raises(RecNextError, match=r"images/b\.jpg and .*images/b\.png have one name"):
        open_mask_folders(plain)


def test_hidden_files_links_and_both_forms_of_unicode(plain):
    for kind, ending in (("images", "jpg"), ("masks", "png")):
        folder = plain / "train" / kind
        (folder / f"._a.{ending}").write_bytes(b"\0\5\x16\7")
        form = "NFC" if kind == "images" else "NFD"
        (folder / f"b.{ending}").rename(folder / unicodedata.normalize(form, f"caf\u00e9.{ending}"))
        (plain / "moved").mkdir(exist_ok=True)
        folder.rename(plain / "moved" / kind)
        folder.symlink_to(plain / "moved" / kind)
    assert [folders.name for folders, _ in open_mask_folders(plain).train.pairs] == ["a.jpg", "caf\u00e9.jpg"]


def test_other_names_of_the_splits(plain):
    (plain / "val").rename(plain / "valid")
    assert len(open_mask_folders(plain).val) == 2


def test_names_in_another_encoding_are_one_line(plain):
    (plain / "classes.txt").write_bytes("sky\nroad\nb\u00e4r\n".encode("latin-1"))
    with pytest.raises(RecNextError, match=r"classes\.txt is no UTF-8 text.*save it as UTF-8"):
        open_mask_folders(plain)
