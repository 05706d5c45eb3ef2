"""Average precision against pycocotools, COCO's own program."""

import contextlib
import io
from copy import deepcopy

import numpy as np
import pytest
import torch

from recnext.tasks.detection.coco import decode_segmentation, read_coco
from recnext.tasks.detection.evaluate import DetectionMeter, to_coco
from recnext.tasks.detection.metrics import NUMBERS, coco_metrics
from tasks.detection.runs import edit, write_data


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Scenes with crowds and with images that show nothing."""
    root = write_data(tmp_path_factory.mktemp("coco"), val=20, crowds=0.4)
    file = read_coco(root / "annotations" / "instances_val.json", masks=True)
    assert any(record["iscrowd"] for record in file.ground_truth["annotations"])
    return file


@pytest.fixture(scope="module")
def detections(file):
    """The annotations moved, relabelled, repeated and given scores at random: right, wrong and in crowds."""
    random = np.random.default_rng(0)
    records = []
    for record in file.ground_truth["annotations"]:
        mask = decode_segmentation(record["segmentation"], height=48, width=64)
        for _ in range(random.integers(1, 4)):
            move = random.integers(-3, 4, 2)
            x, y, width, height = record["bbox"]
            moved = np.roll(mask, move[::-1], (0, 1))
            label = file.category_ids.index(record["category_id"]) + 1
            found = {
                "boxes": torch.tensor([[x, y, x + width, y + height]]) + torch.from_numpy(np.tile(move, 2)),
                "labels": torch.tensor([label if random.random() < 0.8 else random.integers(1, 6)]),
                "scores": torch.tensor([random.uniform(0.05, 1)]),
                "masks": torch.from_numpy(moved)[None, None],
            }
            records += to_coco(found, image_id=record["image_id"], category_ids=file.category_ids)
    return records


def by_pycocotools(file, detections, kind):
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = deepcopy(file.ground_truth)
        truth.createIndex()
        dropped = "segmentation" if kind == "bbox" else "bbox"
        judged = [{key: value for key, value in each.items() if key != dropped} for each in deepcopy(detections)]
        evaluation = COCOeval(truth, truth.loadRes(judged), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_equals_pycocotools_with_crowds(file, detections, kind):
    ids = [image.id for image in file.images]
    result = coco_metrics(file, detections, image_ids=ids, masks=kind == "segm")
    expected = by_pycocotools(file, detections, kind)
    for name, value in zip(NUMBERS, expected.stats, strict=True):
        actual = result.numbers[name]
        assert (np.isnan(actual) and value == -1) or actual == pytest.approx(100 * value, abs=1e-3), name
    assert 20 < result.numbers["ap50"] < 99
    precision = expected.eval["precision"]
    for index in range(len(file.category_ids)):
        whole = precision[:, :, index, 0, -1]
        assert result.per_class[index] == pytest.approx(100 * whole[whole > -1].mean(), abs=1e-3)
        assert result.per_class50[index] == pytest.approx(100 * precision[0, :, index, 0, -1].mean(), abs=1e-3)


def test_perfect_detections_reach_everything(file):
    records = []
    for record in file.ground_truth["annotations"]:
        if not record["iscrowd"]:
            records.append({**{key: record[key] for key in ("image_id", "category_id", "bbox")}, "score": 1.0})
    result = coco_metrics(file, records, image_ids=[image.id for image in file.images], masks=False)
    assert result.numbers["ap"] == pytest.approx(100)
    assert np.isnan(result.numbers["ap_large"])


@pytest.mark.parametrize("identifier", [lambda n: n, lambda n: -1 - n, lambda n: f"a{n}", lambda n: 2**62 + n])
def test_ids_of_annotations_may_be_any(tmp_path, identifier):
    """Evaluation marks what is unmatched with 0 and takes whole numbers alone; files in use start at 0."""
    root = write_data(tmp_path)

    def change(content):
        for number, record in enumerate(content["annotations"]):
            record["id"] = identifier(number)

    assert everything_found(edit(root, "val", change)) == 100


@pytest.mark.parametrize("some", [1, 99])
def test_ids_of_images_may_be_text(tmp_path, some):
    root = write_data(tmp_path)

    def change(content):
        for record in content["images"]:
            record["id"] = f"i{record['id']}" if record["id"] <= some else record["id"]
        for record in content["annotations"]:
            record["image_id"] = f"i{record['image_id']}" if record["image_id"] <= some else record["image_id"]

    assert everything_found(edit(root, "val", change)) == 100


def everything_found(path):
    """Box AP of the annotations themselves, through what evaluation uses."""
    file = read_coco(path, masks=False)
    meter = DetectionMeter(file, masks=False)
    for image in file.images:
        objects = [each for each in image.objects if not each.crowd]
        found = {
            "boxes": torch.tensor([each.box for each in objects]).reshape(-1, 4),
            "labels": torch.tensor([each.label for each in objects], dtype=torch.int64),
            "scores": torch.full((len(objects),), 0.9),
        }
        meter.add(image.id, found)
    return pytest.approx(meter.compute().box.numbers["ap"], abs=1e-9)


def test_nothing_found_is_zero(file):
    result = coco_metrics(file, [], image_ids=[image.id for image in file.images], masks=False)
    assert result.numbers["ap"] == 0
    assert len(result.per_class) == 5
