"""Every result published for the family, as data: accuracy, latency and throughput, detection, segmentation."""

import json
from importlib.resources import files
from typing import Any


def published() -> dict[str, Any]:
    """The published results.

    Returns:
        Sections by name. `classification`, `coco_mask_rcnn_1x` and `ade20k_semantic_fpn` map a network to its
        numbers; `ablation_recnext_m1` lists the token mixers tried in RecNeXt-M1; further ones hold MLLA,
        robustness, linear-attention kernels and other networks. Accuracies and AP in percent, latencies in
        milliseconds, throughputs in images per second, on the device that the key names.
    """
    return json.loads((files("recnext.checkpoints") / "published.json").read_text(encoding="utf-8"))
