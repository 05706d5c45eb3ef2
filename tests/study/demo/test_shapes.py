import json

import numpy as np
import pytest
from PIL import Image

from recnext.errors import RecNextError
from recnext.study.demo.shape_folders import CATEGORY_IDS, ShapeCollection, write_ade, write_coco
from recnext.study.demo.shapes import CLASS_NAMES, draw_scene
from recnext.tasks.detection.rle import decode_rle

SMALL = ShapeCollection(train=20, val=3, size=(48, 64))


def test_scenes_depend_on_seed_and_index_alone():
    again = draw_scene(3, seed=5, crowd=True)
    first = draw_scene(3, seed=5, crowd=True)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.semantic, again.semantic)
    assert not np.array_equal(first.image, draw_scene(4, seed=5, crowd=True).image)
    assert not np.array_equal(first.image, draw_scene(3, seed=6, crowd=True).image)


def test_masks_do_not_overlap_and_make_the_semantic_map():
    for index in range(8):
        scene = draw_scene(index, size=(64, 96), shapes=(4, 9), crowd=index % 2 == 0)
        assert scene.image.shape == (64, 96, 3)
        cover = sum(instance.mask.astype(int) for instance in scene.instances)
        assert cover.max() == 1
        assert np.array_equal(cover == 0, scene.semantic == 0)
        for instance in scene.instances:
            assert instance.area > 0
            assert (scene.semantic[instance.mask] == instance.label + 1).all()


def test_boxes_are_exact():
    for instance in draw_scene(0, shapes=(5, 5)).instances:
        x1, y1, x2, y2 = instance.box
        inside = instance.mask[y1:y2, x1:x2]
        assert inside.sum() == instance.area
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()


def test_shapes_hide_one_another_but_never_whole():
    several = [draw_scene(index, shapes=(6, 6)).instances for index in range(6)]
    pairs = [(a.box, b.box) for found in several for a in found for b in found if a is not b]
    assert any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a, b in pairs)
    assert min(instance.area for found in several for instance in found) >= 16


def test_coco_layout(tmp_path):
    write_coco(tmp_path, SMALL)
    content = json.loads((tmp_path / "annotations" / "instances_train.json").read_text())
    assert [category["name"] for category in content["categories"]] == list(CLASS_NAMES)
    assert len(content["images"]) == 20
    assert all((tmp_path / "train" / image["file_name"]).is_file() for image in content["images"])
    annotated = {annotation["image_id"] for annotation in content["annotations"]}
    assert len(annotated) == 19  # one in twenty is empty
    assert sum(annotation["iscrowd"] for annotation in content["annotations"]) == 2
    for annotation in content["annotations"]:
        mask = decode_rle(annotation["segmentation"])
        x, y, width, height = annotation["bbox"]
        assert mask.shape == (48, 64)
        assert mask.sum() == annotation["area"] == mask[y : y + height, x : x + width].sum()
        assert annotation["category_id"] in CATEGORY_IDS
    assert len({annotation["id"] for annotation in content["annotations"]}) == len(content["annotations"])


def test_ade_layout(tmp_path):
    write_ade(tmp_path, SMALL)
    names = (tmp_path / "classes.txt").read_text().split()
    assert names == ["background", *CLASS_NAMES]
    images = sorted((tmp_path / "images" / "training").iterdir())
    labels = sorted((tmp_path / "annotations" / "training").iterdir())
    assert [path.stem for path in images] == [path.stem for path in labels]
    found = set()
    for image, label in zip(images, labels, strict=True):
        pixels = np.asarray(Image.open(label))
        assert Image.open(image).size == (64, 48) == pixels.shape[::-1]
        found |= set(np.unique(pixels).tolist())
    assert found == set(range(1, 7))
    held_out = np.asarray(Image.open(tmp_path / "images" / "validation" / images[0].name))
    assert not np.array_equal(held_out, np.asarray(Image.open(images[0])))


def test_what_cannot_be_drawn():
    with pytest.raises(RecNextError, match="at least 32 pixels"):
        draw_scene(0, size=(20, 64))
    with pytest.raises(RecNextError, match="fewest <= most"):
        draw_scene(0, shapes=(3, 2))
    with pytest.raises(RecNextError, match="at least one image"):
        ShapeCollection(train=0)
    with pytest.raises(RecNextError, match="at most 1"):
        ShapeCollection(empty=0.7, crowds=0.5)
