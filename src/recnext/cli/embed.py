"""`recnext embed`: features of images, as a table."""

import os
from pathlib import Path
from typing import Optional

import torch
from torch import nn

from recnext.checkpoints import load
from recnext.errors import RecNextError
from recnext.tasks.classification.embedding import Pooled

from .shared import parse_size, require_at_least
from .tables import make_table, weight_facts


def run(
    images: list[str],
    *,
    output: Path,
    model: Optional[str] = None,
    checkpoint: Optional[str] = None,
    pretrained: bool = False,
    stages: bool = False,
    batch_size: int = 32,
    image_size: Optional[str] = None,
    device: str = "auto",
    fused: bool = True,
    ema: bool = False,
    workers: Optional[int] = None,
    overwrite: bool = False,
) -> int:
    """Writes the features of images to a parquet file: columns image, features, error.

    Alone or under torchrun or accelerate launch. A run that was killed goes on with the same command: no row is lost
    or doubled. Images that cannot be read have an error and no features; then the exit status is 1.

    Args:
        images: files, folders (searched to any depth) and patterns, or tar shards such as "shards/*.tar".
        output: parquet file to write.
        model: a timm name, such as recnext_m1; not needed where the checkpoint tells it.
        checkpoint: weight file, run folder or hub id.
        pretrained: the published ImageNet weights of --model.
        stages: a vector for every stage (stage_0, ...), the mean over its map, in place of the pooled features.
        batch_size: images at once, in each process.
        image_size: N or HxW in pixels; by default the one of the weights.
        device: auto, cpu, cuda, cuda:N or mps; each of several processes takes a GPU of its own.
        fused: fold every BatchNorm: the same features, faster.
        ema: take the moving average of the weights.
        workers: threads that decode images; by default one a CPU.
        overwrite: replace files that this command did not write.
    """
    if checkpoint is None and not pretrained:
        raise RecNextError(
            "no weights are given, and random ones tell nothing: add --checkpoint FILE, or --model NAME --pretrained"
        )
    require_at_least(1, batch_size=batch_size, workers=workers)

    def load_network(device: torch.device) -> nn.Module:
        kind = {"features_only": True} if stages else {"num_classes": 0}
        return load(
            model,
            checkpoint=checkpoint,
            pretrained=pretrained,
            fused=True if fused else None,
            ema=ema,
            device=device,
            **kind,  # type: ignore[arg-type]
        )

    return make_table(
        images,
        output,
        load_network=load_network,
        columns=lambda network: Pooled(stages),
        facts={
            **weight_facts(model, checkpoint=checkpoint, ema=ema),
            "stages": stages,
            "image_size": image_size,
            "fused": fused,
        },
        image_size=parse_size(image_size) if image_size else None,
        batch_size=batch_size,
        workers=workers or os.cpu_count() or 1,
        device=device,
        overwrite=overwrite,
    )
