import json
import os
import unicodedata

import numpy as np
import pytest
import torch

from recnext.data.images import UnreadableImageError
from recnext.errors import RecNextError
from recnext.study.demo.shapes import CLASS_NAMES
from recnext.tasks.detection.coco import decode_segmentation, read_coco
from recnext.tasks.detection.data import open_coco, open_split, training_transform
from tasks.detection.runs import edit, write_data


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


def changed(data, **values):
    """The training file with values of its third annotation changed; None removes one."""

    def change(content):
        for key, value in values.items():
            content["annotations"][2][key] = value
            if value is None:
                del content["annotations"][2][key]

    return edit(data, "train", change)


def test_objects_are_exactly_those_drawn(data):
    folders = open_coco(data, masks=True, keep_empty=True)
    assert folders.class_names == CLASS_NAMES
    assert folders.category_ids == (2, 5, 8, 11, 14)
    assert len(folders.train) == 12
    image, target = folders.train[0]
    assert image.shape == (3, 48, 64)
    assert image.dtype == torch.uint8
    assert target["masks"].shape[1:] == (48, 64)
    for box, mask in zip(target["boxes"].tolist(), target["masks"], strict=True):
        rows, columns = torch.where(mask)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_crowds_and_empty_images_are_not_trained_on(data):
    folders = open_coco(data, masks=True)
    assert 0 < len(folders.train) < 12
    assert any("without objects: left out" in note for note in folders.notes)
    crowded = [image for image in open_split(data, "val", masks=True).images if any(o.crowd for o in image.objects)]
    assert crowded
    target = folders.val.target(crowded[0])
    assert len(target["boxes"]) == sum(not each.crowd for each in crowded[0].objects)


def test_flips_take_boxes_and_masks_along(data):
    folder = open_coco(data, masks=True).train
    plain, before = folder[0]
    flipped, after = training_transform(hflip=1.0, photometric=False)(*folder[0])
    assert torch.equal(flipped, plain.flip(-1))
    assert torch.equal(after["masks"], before["masks"].flip(-1))
    assert torch.equal(after["boxes"][:, 0], 64 - before["boxes"][:, 2])


def test_coco_2017_and_other_layouts_are_found(data, tmp_path):
    for split in ("train", "val"):
        (data / split).rename(data / f"{split}2017")
        (data / f"annotations/instances_{split}.json").rename(data / f"annotations/instances_{split}2017.json")
    assert len(open_coco(data, masks=True).val) == 5
    for split in ("train", "val"):
        (data / f"{split}2017").rename(data / split)
        (data / f"annotations/instances_{split}2017.json").rename(data / split / "_annotations.coco.json")
    assert len(open_coco(data, masks=True).val) == 5
    (data / "val").rename(data / "valid")  # as Roboflow writes it
    assert len(open_coco(data, masks=True).val) == 5


def test_harmless_faults_are_passed_over_with_counts(data):
    def change(content):
        del content["annotations"][0]["id"]
        content["annotations"][1]["bbox"] = [50, 10, 40, 20]
        content["annotations"][2]["bbox"] = [5, 5, 0, 10]

    path = edit(data, "train", change)
    file = read_coco(path, masks=True)
    assert dict(file.passed_over) == {
        "annotations without id: numbered": 1,
        "boxes that reach outside their image: cut off": 1,
        "boxes under a pixel, or wholly outside their image: not trained on": 1,
    }
    assert [note.split(":")[0] for note in file.notes] == ["instances_train.json"] * 3
    boxes = [each.box for image in file.images for each in image.objects]
    assert (50.0, 10.0, 64.0, 30.0) in boxes
    assert len({record["id"] for record in file.ground_truth["annotations"]}) == len(file.ground_truth["annotations"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_id": 99}, r"annotations\[2\] \(id 3\): image_id 99 is no image of the file"),
        ({"category_id": 3}, r"annotations\[2\] \(id 3\): category_id 3 is unknown; the file has 2, 5, 8, 11, 14"),
        ({"category_id": None}, r"annotations\[2\] \(id 3\): category_id None is unknown"),
        ({"bbox": [1, 2, 3]}, r"annotations\[2\] \(id 3\): bbox is \[1, 2, 3\]; expected \[x, y, width, height\]"),
        ({"bbox": [1, 2, -3, 4]}, r"annotations\[2\] \(id 3\): bbox \[1, 2, -3, 4\] has a negative size"),
        ({"id": 1}, r"annotations\[2\] \(id 1\): id 1 is used twice"),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, r"its RLE is of size \[9, 9\], its image 00000\d.jpg"),
        ({"segmentation": {"size": [48, 64], "counts": [81]}}, r"its RLE covers 81 pixels, its image has 3072"),
        ({"segmentation": [[1, 2, 3]]}, r"a polygon is an even number of coordinates, 6 or more, not \[1, 2, 3\]"),
        ({"segmentation": None}, r"annotations\[2\] \(id 3\) has no segmentation: .* --no-masks"),
        ({"image_id": [1]}, r"annotations\[2\] \(id 3\): image_id \[1\] is no image of the file"),
        ({"category_id": [2]}, r"annotations\[2\] \(id 3\): category_id \[2\] is unknown"),
        ({"id": [3]}, r"annotations\[2\] .*: an id is a whole number or text, not \[3\]"),
        ({"bbox": [0, 0, 10**400, 5]}, r"annotations\[2\] \(id 3\): bbox is \[0, 0, 1000"),
        ({"bbox": ["0", 0, 1, 5]}, r"annotations\[2\] \(id 3\): bbox is \['0', 0, 1, 5\]"),
        ({"area": "big"}, r"annotations\[2\] \(id 3\): area is 'big'; expected a number of pixels"),
        ({"area": float("nan")}, r"annotations\[2\] \(id 3\): area is nan"),
        ({"iscrowd": "yes"}, r"annotations\[2\] \(id 3\): iscrowd is 'yes'; expected 0 or 1"),
        ({"segmentation": [["a"] * 6]}, r"a polygon is an even number of coordinates, 6 or more, not \['a'"),
        ({"segmentation": [[float("nan")] * 6]}, r"a polygon is an even number of coordinates, 6 or more, not \[nan"),
        ({"segmentation": {"size": [48, 64], "counts": ["a"]}}, r"\(id 3\): RLE: counts are whole numbers from 0"),
        ({"segmentation": {"size": [48, 64], "counts": [-5, 3077]}}, r"\(id 3\): RLE: counts are whole numbers from 0"),
        (
            {"segmentation": {"size": [48, 64], "counts": "01"}},
            r"\(id 3\): its RLE covers 1 pixels, its image has 3072",
        ),
        ({"segmentation": {"size": [48, 64], "counts": "é"}}, r"\(id 3\): RLE: counts are no compressed text"),
    ],
)
def test_faulty_annotations_are_named(data, values, message):
    path = changed(data, **values)
    with pytest.raises(RecNextError, match=message) as caught:
        read_coco(path, masks=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["images"][1].pop("file_name"), r"images\[1\] \(id 2\) has no 'file_name'"),
        (lambda content: content["images"][1].update(id=1), r"images\[1\] \(id 1\): id 1 is used twice"),
        (lambda content: content["images"][1].update(width="64"), r"has the str '64' as 'width'"),
        (lambda content: content["categories"][1].pop("id"), r"categories\[1\] has no 'id'"),
        (lambda content: content.pop("categories"), r"no COCO annotation file: .*it lacks categories"),
    ],
)
def test_faulty_files_are_named(data, change, message):
    with pytest.raises(RecNextError, match=message):
        read_coco(edit(data, "train", change), masks=True)


def test_broken_json_and_missing_files_are_named(data, tmp_path):
    path = data / "annotations" / "instances_train.json"
    whole = path.read_text()
    path.write_text("[" * 100_000)
    with pytest.raises(RecNextError, match=r"instances_train.json is not valid JSON"):
        read_coco(path, masks=True)
    path.write_text(whole, encoding="utf-8-sig")  # as some programs on Windows do
    assert len(read_coco(path, masks=True).images) == 12
    path.write_text(path.read_text()[:-20])
    with pytest.raises(RecNextError, match=r"instances_train.json is not valid JSON"):
        open_coco(data, masks=True)
    path.unlink()
    with pytest.raises(RecNextError, match="has no annotations of train: expected"):
        open_coco(data, masks=True)
    with pytest.raises(RecNextError, match="does not exist: expected a folder"):
        open_coco(tmp_path / "nowhere", masks=True)


def test_missing_images_are_counted_and_refused_or_left_out(data):
    (data / "train" / "000001.jpg").unlink()
    with pytest.raises(RecNextError, match=r"1 of 12 images of .* are missing, .*000001.jpg \(id 1\) first"):
        open_coco(data, masks=True, max_missing=0.01)
    folders = open_coco(data, masks=True, max_missing=0.1)
    assert "instances_train.json: 1 of 12 images are missing: left out" in folders.notes
    (data / "val" / "000002.jpg").unlink()
    with pytest.raises(RecNextError, match="1 of 5 images"):
        open_coco(data, masks=True, max_missing=0.5)


def test_any_value_in_any_place_is_taken_or_one_line_that_names_it(data):
    path = data / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    odd = [
        None,
        True,
        -1,
        0,
        2**70,
        10**400,
        1e308,
        float("nan"),
        "x",
        "\0",
        [],
        [[]],
        {},
        [[0] * 5 + [1e12]],
        {"size": 5},
    ]

    def places(value, *way):
        yield way
        items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
        for key, part in items:
            yield from places(part, *way, key)

    refused = []
    for way in [way for way in places(content) if way]:
        for value in odd:
            changed = json.loads(json.dumps(content))
            holder = changed
            for key in way[:-1]:
                holder = holder[key]
            holder[way[-1]] = value
            path.write_text(json.dumps(changed))
            try:
                file = read_coco(path, masks=True)
                os.path.isfile(data / "train" / file.images[0].file)
            except RecNextError as error:
                refused.append(str(error))
    assert len(refused) > 200
    assert all("instances_train.json" in line and "\n" not in line and len(line) < 700 for line in refused)


def test_images_in_any_usual_place_are_found(data):
    """images/train with images/valid, and file names that are relative to the root."""
    (data / "images").mkdir()
    for split, name in (("train", "train"), ("val", "valid")):
        (data / split).rename(data / "images" / name)
        (data / f"annotations/instances_{split}.json").rename(data / f"annotations/{name}.json")
    folders = open_coco(data, masks=True)
    assert (len(folders.val), folders.val.root) == (5, data / "images" / "valid")

    def rooted(content):
        for image in content["images"]:
            image["file_name"] = f"images/valid/{image['file_name']}"

    path = data / "annotations" / "valid.json"
    content = json.loads(path.read_text())
    rooted(content)
    path.write_text(json.dumps(content))
    assert open_coco(data, masks=True).val.root == data


def test_files_are_found_in_either_form_of_unicode(data):
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9.jpg") for form in ("NFC", "NFD"))
    (data / "val" / "000001.jpg").rename(data / "val" / decomposed)
    edit(data, "val", lambda content: content["images"][0].update(file_name=composed))
    folder = open_coco(data, masks=True).val
    assert folder[0][0].shape == (3, 48, 64)


def test_splits_need_the_same_classes(data):
    edit(data, "val", lambda content: content["categories"][0].update(name="wheel"))
    with pytest.raises(RecNextError, match=r"have different categories \(disc, wheel\)"):
        open_coco(data, masks=True)


def test_an_image_of_another_size_than_its_record_is_unreadable(data):
    edit(data, "val", lambda content: [image.update(width=63) for image in content["images"]])
    folder = open_split(data, "val", masks=False)
    with pytest.raises(UnreadableImageError, match=r"has 64x48 pixels, its record \(id 1\) says 63x48"):
        folder[0]


def test_every_kind_of_segmentation_is_the_same_mask():
    """The oracle is pycocotools, which COCO's own tools are."""
    coco_mask = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((20, 30), dtype=bool)
    mask[4:13, 6:21] = True
    compressed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    polygon = [[6.0, 4.0, 21.0, 4.0, 21.0, 13.0, 6.0, 13.0]]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygon, 20, 30))).astype(bool)
    text = {**compressed, "counts": compressed["counts"].decode()}
    runs = {"size": [20, 30], "counts": [6 * 20 + 4, *[9, 11] * 14, 9, 20 * 30 - 20 * 20 - 13]}
    for segmentation, expected in ((runs, mask), (text, mask), (polygon, drawn)):
        actual = decode_segmentation(json.loads(json.dumps(segmentation)), height=20, width=30)
        assert np.array_equal(actual, expected)
