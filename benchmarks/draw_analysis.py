"""Draws the pictures of docs/analysis.md and measures its tables: `python benchmarks/draw_analysis.py [checkpoint]`.

Pictures go to docs/images, results to benchmarks/results/analysis.json; `python benchmarks/analysis_tables.py` then
writes the tables. The checkpoint of the classifier of shapes is taken where it exists, or else trained and left there.

The maps of `recnext erf` and the profile of `recnext attention-profile` are those of untrained networks on noise. The
explanations are of a RecNeXt-M of 0.26 M parameters at 96 pixels that this script trains to say which shape lies in
a synthetic scene, where the place of the evidence is known; the script prints how much of the heat falls on it.
"""

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from PIL import Image
from rich.progress import track
from torch import Tensor, nn

from recnext.checkpoints import load, save
from recnext.cli.main import dispatch
from recnext.data import normalise
from recnext.study.demo.shapes import CLASS_NAMES, draw_scene
from recnext.tasks.classification.activation_maps import class_activation_maps
from recnext.tasks.classification.data import preparation_of

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "analysis.json"
SIZE = 96
STEPS, BATCH = 800, 32
HELD_OUT = 40
EXAMPLE = 7  # of the held-out scenes, the one that is drawn


def scene(seed: int, index: int) -> tuple[Tensor, int, Tensor]:
    """uint8 (3, H, W), the label of the one shape, and its mask (H, W)."""
    drawn = draw_scene(index, seed=seed, size=(SIZE, SIZE), shapes=(1, 1))
    (instance,) = drawn.instances
    return torch.from_numpy(drawn.image).permute(2, 0, 1), instance.label, torch.from_numpy(instance.mask)


def batches(preparation: object) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(STEPS):
        images, labels, _ = zip(*(scene(0, step * BATCH + i) for i in range(BATCH)), strict=True)
        yield prepare(torch.stack(images), preparation), torch.tensor(labels)


def prepare(images: Tensor, preparation: object) -> Tensor:
    return normalise(images, mean=preparation.mean, std=preparation.std, device=torch.device("cpu"))  # type: ignore[attr-defined]


def train(path: Path) -> None:
    """Trains the classifier of shapes and saves it."""
    torch.manual_seed(0)
    model = timm.create_model(
        "recnext_m0",
        embed_dim=[16, 32, 64, 128],
        depths=[1, 1, 3, 1],
        num_classes=len(CLASS_NAMES),
        pretrained_cfg_overlay={"input_size": (3, SIZE, SIZE), "crop_pct": 1.0},
    ).to(memory_format=torch.channels_last)
    preparation = preparation_of(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.025)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    model.train()
    for images, labels in track(batches(preparation), total=STEPS, description="training on shapes"):
        logits = model(images)
        loss = F.cross_entropy(logits[0] if isinstance(logits, tuple) else logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    save(model.eval(), path, class_names=CLASS_NAMES)


def check(model: nn.Module) -> dict[str, Any]:
    """Held-out scenes named rightly, and the share of the heat of the true class that falls on its shape, by stage."""
    preparation = preparation_of(model)
    right, area = 0, 0.0
    heat_on = dict.fromkeys(range(len(model.feature_info)), 0.0)  # type: ignore[arg-type]
    for index in track(range(HELD_OUT), description="held-out scenes"):
        image, label, mask = scene(1, index)
        x = prepare(image[None], preparation)
        with torch.no_grad():
            right += int(model(x).argmax()) == label
        for stage in heat_on:
            heat = class_activation_maps(model, x, [label], stage=stage)[0]
            heat_on[stage] += float(heat[mask].sum() / heat.sum().clamp(min=1e-9)) / HELD_OUT
        area += float(mask.float().mean()) / HELD_OUT
    return {"scenes": HELD_OUT, "right": right, "heat_on_shape": list(heat_on.values()), "shape_area": area}


def run(*arguments: object) -> dict[str, Any]:
    """What a command of recnext prints with ``--json``."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = dispatch([*map(str, arguments), "--json"])
    if status != 0:
        sys.exit(status)
    return json.loads(printed.getvalue())


def main() -> None:
    folder = ROOT / "docs" / "images"
    results: dict[str, Any] = {"versions": {"torch": torch.__version__, "timm": timm.__version__}}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        weights = Path(sys.argv[1]) if len(sys.argv) > 1 else work / "shapes.safetensors"
        if not weights.exists():
            train(weights)
        results["shapes"] = check(load(checkpoint=weights))
        image = work / "scene.png"
        Image.fromarray(scene(1, EXAMPLE)[0].permute(1, 2, 0).numpy()).save(image)
        run("explain", image, "--checkpoint", weights, "--output", work)
        for name, target in (("grad_cam", "analysis-grad-cam"), ("levels", "analysis-levels")):
            (folder / f"{target}.png").write_bytes((work / f"{name}.png").read_bytes())
    results["attention"] = run("attention-profile", "--count", 4, "--output", folder / "analysis-attention.png")
    results["erf"] = run("erf", "--output", folder / "analysis-erf.png")
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()
