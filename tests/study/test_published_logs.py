"""Logs of the kinds that RecNeXt's authors published, a few invented lines of each."""

import json
import math

import pytest

from cli.command import run, run_json
from recnext.errors import RecNextError
from recnext.study.published_logs import read_log

TEXT = """AMP: true
MODEL:
  NAME: mlla_nano

EPOCH 1
 * Acc@1 1.160 Acc@5 4.404
Accuracy of the network on the 50000 test images: 1.2%
 * Acc@1 0.100 Acc@5 0.500
Accuracy of the ema network on the 50000 test images: 0.1%
--
EPOCH 2
 * Acc@1 3.212 Acc@5 10.778
Accuracy of the network on the 50000 test images: 3.2%
"""


def imagenet(epoch, top1):
    line = {"train_lr": 1e-3, "train_loss": 6.0 - epoch, "test_loss": 5.0, "test_acc1": top1, "test_acc5": 2 * top1}
    return json.dumps({**line, "epoch": epoch, "n_parameters": 7}) + "\n"


def openmm(**val):
    train = {"mode": "train", "epoch": 1, "lr": 1e-4, "loss": 2.0}
    lines = [{"env_info": "x"}, {**train, "iter": 50}, {**train, "iter": 100, "loss": 1.0}]
    return "".join(json.dumps(line) + "\n" for line in (*lines, {"mode": "val", "epoch": 1, "iter": 7, **val}))


def test_imagenet(tmp_path):
    (tmp_path / "log.txt").write_text(imagenet(0, 5.0) + imagenet(1, 9.0))
    first, second = read_log(tmp_path / "log.txt")
    assert math.isnan(first.pop("step"))
    assert first == {"epoch": 0, "lr": 1e-3, "train_loss": 6.0, "val_loss": 5.0, "top1": 5.0, "top5": 10.0}
    assert (second["epoch"], second["top1"]) == (1, 9.0)


def test_text_of_mlla(tmp_path):
    (tmp_path / "log.txt").write_text(TEXT)
    records = read_log(tmp_path / "log.txt")
    assert [(one["epoch"], one["top1"], one["top5"], one.get("ema_top1")) for one in records] == [
        (0, 1.16, 4.404, 0.1),
        (1, 3.212, 10.778, None),
    ]


def test_detection_and_segmentation(tmp_path):
    (tmp_path / "d.json").write_text(openmm(bbox_mAP=0.415, bbox_mAP_50=0.6, segm_mAP=0.38, bbox_mAP_copypaste="x"))
    (record,) = read_log(tmp_path / "d.json")
    expected = {
        "epoch": 0,
        "step": 100,
        "train_loss": 1.5,
        "lr": 1e-4,
        "box_ap": 41.5,
        "box_ap50": 60.0,
        "mask_ap": 38.0,
    }
    assert record == pytest.approx(expected)
    (tmp_path / "d.json").write_text(openmm(bbox_mAP=0.4) + openmm(bbox_mAP=0.5))
    assert [one["step"] for one in read_log(tmp_path / "d.json")] == [100, 200]
    (tmp_path / "s.json").write_text(openmm(mIoU=0.41, mAcc=0.5, aAcc=0.8))
    (record,) = read_log(tmp_path / "s.json")
    assert (record["miou"], record["macc"], record["aacc"]) == pytest.approx((41, 50, 80))


@pytest.mark.parametrize(("text", "message"), [("hello", "is neither text of epochs nor JSON"), ("{}\n", "holds no")])
def test_other_files(text, message, tmp_path):
    (tmp_path / "log.txt").write_text(text)
    with pytest.raises(RecNextError, match=message):
        read_log(tmp_path / "log.txt")


def test_a_run_and_published_logs_in_one_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    record = {"lr": 0.1, "val_loss": 2.0, "top5": 9.0, "images_per_second": 10.0, "seconds": 1.0, "train_loss": 3.0}
    lines = ({**record, "epoch": epoch, "step": 9 * epoch, "top1": 6.0 + epoch} for epoch in range(3))
    (tmp_path / "mine" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "m1.txt").write_text(imagenet(0, 5.0) + imagenet(1, 9.0))
    (tmp_path / "mlla.txt").write_text(TEXT)
    result = run_json(capsys, "plot", "mine", "m1.txt", "mlla.txt")
    assert result["epochs"] == [
        {"epoch": 1, "mine": 6.0, "m1.txt": 5.0, "mlla.txt": 1.16},
        {"epoch": 2, "mine": 7.0, "m1.txt": 9.0, "mlla.txt": 3.212},
    ]
    assert [(row["run"], row["best"], row["steps"]) for row in result["runs"]] == [
        ("mine", 8.0, 18),
        ("m1.txt", 9.0, None),
        ("mlla.txt", 3.212, None),
    ]
    (tmp_path / "d.json").write_text(openmm(bbox_mAP=0.415))
    status, out, err = run(capsys, "plot", "d.json", "--output", "d.png")
    assert (status, "41.50" in out) == (0, True), err
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
