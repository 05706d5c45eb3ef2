"""Logs that others' training programs write, as records of a run: the published ones of RecNeXt are of these kinds.

ImageNet: a JSON mapping a line (``test_acc1``). MLLA: text (``EPOCH 3``, ``* Acc@1 7.060 Acc@5 19.898``, the averaged
weights' second). MMDetection and MMSegmentation: a JSON mapping a line with a ``mode``, in shares of 1.
"""

import json
import math
import re
from pathlib import Path
from statistics import fmean
from typing import Any

from recnext.engine.run_folder import Record, read_records
from recnext.errors import RecNextError
from recnext.text import read_text

_IMAGENET = {"train_lr": "lr", "train_loss": "train_loss", "test_loss": "val_loss", "test_acc1": "top1"}
_IMAGENET |= {"test_acc5": "top5", "test_acc1_ema": "ema_top1"}
_SHARES = {"bbox_mAP": "box_ap", "bbox_mAP_50": "box_ap50", "bbox_mAP_75": "box_ap75", "segm_mAP": "mask_ap"}
_SHARES |= {"segm_mAP_50": "mask_ap50", "segm_mAP_75": "mask_ap75", "mIoU": "miou", "mAcc": "macc", "aAcc": "aacc"}
_EPOCH = re.compile(r"^EPOCH (\d+)\n(.*?)(?=^EPOCH|\Z)", re.MULTILINE | re.DOTALL)
_ACCURACIES = re.compile(r"Acc@1 ([\d.]+) Acc@5 ([\d.]+)")


def read_log(path: Path) -> list[Record]:
    """The records of a run folder, its ``metrics.jsonl``, or another program's log.

    A record has ``epoch`` from 0 and ``step``, which is NaN where the log does not tell it; losses, rates and speeds
    are there where they were logged. Shares become percent.

    Raises:
        RecNextError: it is none of these, or damaged.
    """
    if path.is_dir() or not path.is_file() or path.suffix == ".jsonl":
        return read_records(path)
    text = read_text(path)
    records = [_of_text(int(epoch), part) for epoch, part in _EPOCH.findall(text) if _ACCURACIES.search(part)]
    if not records:
        try:
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise RecNextError(f"{path} is neither text of epochs nor JSON, a line a record: {error}") from None
        lines = [line for line in lines if isinstance(line, dict)]
        records = [_of_imagenet(line) for line in lines if "test_acc1" in line and "epoch" in line] or _of_openmm(lines)
    if not records:
        raise RecNextError(f"{path} holds no evaluations: expected a run folder, or a log as published for RecNeXt")
    return records


def _of_imagenet(line: dict[str, Any]) -> Record:
    found = {key: float(line[theirs]) for theirs, key in _IMAGENET.items() if theirs in line}
    return {"epoch": int(line["epoch"]), "step": math.nan, **found}


def _of_text(epoch: int, part: str) -> Record:
    found = [(float(top1), float(top5)) for top1, top5 in _ACCURACIES.findall(part)]
    record = {"epoch": epoch - 1, "step": math.nan, "top1": found[0][0], "top5": found[0][1]}
    return record if len(found) == 1 else {**record, "ema_top1": found[1][0]}


def _of_openmm(lines: list[dict[str, Any]]) -> list[Record]:
    """A record per evaluation, with the mean loss since the one before; MMDetection counts steps within each epoch."""
    records: list[Record] = []
    losses: list[float] = []
    lr, before, last = math.nan, 0, 0
    for line in lines:
        if line.get("mode") == "train":
            losses.append(float(line["loss"]))
            before += last if int(line["iter"]) <= last else 0
            lr, last = float(line["lr"]), int(line["iter"])
        elif line.get("mode") == "val":
            found = {key: 100 * float(line[theirs]) for theirs, key in _SHARES.items() if theirs in line}
            loss = fmean(losses) if losses else math.nan
            place = {"epoch": int(line["epoch"]) - 1, "step": before + last}
            records.append({**place, "train_loss": loss, "lr": lr, **found})
            losses = []
    return records
