"""The README.md of a hub repository, made from a run and from what is published."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Optional

from huggingface_hub import EvalResult, ModelCardData

from .metadata import CheckpointMetadata
from .published import published

_SETTINGS = (  # shown where the run's config has them
    "epochs",
    "batch_size",
    "lr",
    "weight_decay",
    "label_smoothing",
    "ema",
    "seed",
    "pretrained",
    "checkpoint",
    "teacher",
)
_FILES = {
    "model.safetensors": "best weights of the run, for timm and `recnext.load`",
    "model_ema.safetensors": "moving average of the weights, at its best epoch",
    "model_fused.safetensors": "the best weights with every BatchNorm folded, for inference with `recnext.load`",
    "model_ema_fused.safetensors": "the moving average with every BatchNorm folded",
    "config.json": "what timm needs to build the network",
    "curves.png": "loss and accuracy of the run",
}


def write_card(
    metadata: CheckpointMetadata,
    *,
    parameters: int,
    run: Mapping[str, Any],
    summary: Mapping[str, Any],
    files: Sequence[str],
    repository: str,
    license: Optional[str] = None,
) -> str:
    """The card as Markdown with the hub's header.

    Args:
        metadata: of the weights.
        parameters: trainable ones.
        run: its ``config.yaml``; empty when the weights come from elsewhere.
        summary: its ``summary.json``; likewise.
        files: in the repository.
        repository: hub id, or ``local-dir:`` and a folder.
        license: of the weights.
    """
    best: Mapping[str, float] = summary.get("best", {})
    name = repository.removeprefix("local-dir:").rpartition("/")[2]
    lines = [
        f"---\n{_header(metadata, best=best, data=run.get('data'), name=name, license=license)}\n---",
        f"# {name}",
        f"`{metadata.model}` of the RecNeXt family, {parameters / 1e6:.2f} M parameters, "
        f"{metadata.num_classes} classes, images of {metadata.input_size[1]}x{metadata.input_size[2]} pixels.",
        *_results(metadata, run=run, summary=summary),
        *_usage(metadata, repository),
        *_training(run),
        "## Files",
        "\n".join(f"- `{file}`: {_FILES[file]}" for file in files if file in _FILES),
        *_classes(metadata),
        "## Source",
        "RecConv: Efficient Recursive Convolutions for Multi-Frequency Representations, arXiv 2412.19628.",
    ]
    return "\n\n".join(lines) + "\n"


def _header(
    metadata: CheckpointMetadata,
    *,
    best: Mapping[str, float],
    data: Optional[str],
    name: str,
    license: Optional[str],
) -> str:
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="image-folder",
            dataset_name=_without_folders(data or "validation images"),
            metric_type="accuracy",
            metric_name=label,
            metric_value=round(best[key], 3),
        )
        for key, label in (("top1", "top-1 accuracy, %"), ("top5", "top-5 accuracy, %"))
        if key in best
    ]
    return ModelCardData(
        library_name="timm",
        tags=["image-classification", "timm", "recnext", metadata.model.partition(".")[0]],
        license=license,
        model_name=name if results else None,
        eval_results=results or None,
    ).to_yaml()


def _results(metadata: CheckpointMetadata, *, run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    best: Mapping[str, float] = summary.get("best", {})
    if not best:
        return []
    images = f" on {run['val_images']} validation images" if "val_images" in run else ""
    known = published()["classification"].get(metadata.model.partition(".")[0], {})
    rows = ["| top-1 | top-5 | loss |", "|---|---|---|"]
    rows.append(f"| {best['top1']:.2f} % | {best['top5']:.2f} % | {best['val_loss']:.4f} |")
    text = ["## Accuracy", f"In epoch {summary['best_epoch']} of {summary['epochs']}{images}:", "\n".join(rows)]
    if known and metadata.num_classes == 1000:
        text.append(
            f"Published for this network on ImageNet-1k: {known['top1_distilled']} % distilled, "
            f"{known['top1_base']} % without distillation."
        )
    return text


def _usage(metadata: CheckpointMetadata, repository: str) -> list[str]:
    local = repository.startswith("local-dir:")
    place = repository.removeprefix("local-dir:")
    timm_name = repository if local else f"hf-hub:{repository}"
    return [
        "## Use",
        "\n".join(
            [
                "```python",
                "import recnext  # registers the networks with timm",
                "import timm",
                "",
                f'model = timm.create_model("{timm_name}", pretrained=True).eval()',
                "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
                "```",
            ]
        ),
        "With the class names, and every BatchNorm folded:",
        "\n".join(
            ["```python", "import recnext", "", f'model = recnext.load(checkpoint="{place}", fused=True)', "```"]
        ),
    ]


def _training(run: Mapping[str, Any]) -> list[str]:
    settings: Mapping[str, Any] = run.get("settings", {})
    shown = {key: settings[key] for key in _SETTINGS if settings.get(key) not in (None, False, "")}
    rows = [f"| {key.replace('_', ' ')} | {_plain(_without_folders(value))} |" for key, value in shown.items()]
    for key, label in (("data", "data"), ("train_images", "training images"), ("lr_rule", "learning rate")):
        if key in run:
            rows.append(f"| {label} | {_plain(_without_folders(run[key]))} |")
    return ["## Training", "\n".join(["| setting | value |", "|---|---|", *rows])] if rows else []


def _classes(metadata: CheckpointMetadata) -> list[str]:
    names = metadata.class_names
    if not names:
        return []
    shown = ", ".join(map(_plain, names[:20])) + (
        f" and {len(names) - 20} more (in config.json)" if len(names) > 20 else ""
    )
    return ["## Classes", shown]


def _plain(value: Any) -> str:
    """A name or setting as Markdown shows it: no HTML, no marks of its own, one line."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


def _without_folders(value: Any) -> str:
    """A path of this machine as its last name, also behind a kind of data; all else as it is."""
    text = str(value)
    kind, colon, place = text.rpartition(":")
    return f"{kind}{colon}{PurePath(place).name}" if PurePath(place).is_absolute() else text
