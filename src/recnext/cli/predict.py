"""`recnext predict`: the classes of images."""

import csv
import json as jsonlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional, Union

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from timm.data import resolve_model_data_config
from torch import nn

from recnext.checkpoints import load
from recnext.data.images import Unreadable
from recnext.data.listing import count_images, find_images
from recnext.deploy.export.files import ExportedNetwork, is_exported
from recnext.deploy.optimize import forward_for
from recnext.engine.devices import choose_device
from recnext.errors import RecNextError
from recnext.files import require_output
from recnext.tasks.classification.embedding import classes_of
from recnext.tasks.classification.predict import Prediction, classify

from .shared import parse_size, require_at_least
from .tables import make_table, weight_facts

_COLUMNS = ("image", "rank", "index", "class", "probability")
_REPORTED = 20  # unreadable images named at the end


def run(
    images: list[str],
    *,
    model: Optional[str] = None,
    checkpoint: Optional[str] = None,
    pretrained: bool = False,
    topk: int = 5,
    batch_size: int = 32,
    image_size: Optional[str] = None,
    device: str = "auto",
    fused: bool = True,
    ema: bool = False,
    workers: Optional[int] = None,
    backend: str = "torch",
    precision: str = "auto",
    json: bool = False,
    output: Optional[Path] = None,
    trust: bool = False,
    overwrite: bool = False,
) -> int:
    """Classifies images.

    Images that cannot be read are reported at the end and do not stop the others; then the exit status is 1.

    Args:
        images: files, folders (searched to any depth), patterns such as "photos/*.jpg", http(s) addresses.
        model: a timm name, such as recnext_m1, not needed where the checkpoint tells it; or an exported file (.onnx,
            .xml, .pte, .tflite, .pt2).
        checkpoint: weight file, run folder or hub id.
        pretrained: the published ImageNet weights of --model.
        topk: classes an image.
        batch_size: images at once.
        image_size: N or HxW in pixels; by default the one of the weights.
        device: auto, cpu, cuda, cuda:N or mps.
        fused: fold every BatchNorm: the same answers, faster.
        ema: take the moving average of the weights.
        workers: threads that decode images; by default one a CPU.
        backend: torch, compile, onnxruntime, openvino, or auto for the fastest by a short trial.
        precision: fp32, bf16, fp16, or auto: with torch fp32, otherwise also bf16 where the hardware has it.
        json: print a JSON list with an object for each image.
        output: CSV file to write, a line for each image and class; or .parquet, a row an image: then nothing is
            printed, images may be tar shards, several processes (torchrun) share them, and a killed run goes on.
        trust: open a .pt2 file, which can run any program on this machine.
        overwrite: replace files that this command did not write.
    """
    exported = model is not None and is_exported(model)
    if exported and (checkpoint is not None or pretrained or ema or backend != "torch" or precision != "auto"):
        own = "--checkpoint, --pretrained, --ema, --backend and --precision"
        raise RecNextError(f"{model} has its own weights and runtime: leave {own} out")
    if exported and output is not None and output.suffix == ".parquet":
        raise RecNextError(f"{output}: of an exported file the answers are written as .csv")
    if exported and device not in ("auto", "cpu"):
        raise RecNextError(f"{model} runs on the CPU here: leave --device {device} out")
    if checkpoint is None and not pretrained and not exported:
        raise RecNextError(
            "no weights are given, and random ones tell nothing: add --checkpoint FILE, or --model NAME --pretrained"
        )
    require_at_least(1, topk=topk, batch_size=batch_size, workers=workers)
    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise RecNextError(f"--output is {output}: expected a name ending in .csv or .parquet")
    if output is not None:
        require_output(output, overwrite=overwrite, mark=",".join(_COLUMNS), inputs=images)
    size = parse_size(image_size) if image_size else None
    if output is not None and output.suffix == ".parquet":
        return make_table(
            images,
            output,
            overwrite=overwrite,
            load_network=lambda target: load(
                model,
                checkpoint=checkpoint,
                pretrained=pretrained,
                fused=True if fused else None,
                ema=ema,
                device=target,
            ),
            columns=lambda network: classes_of(network, topk=topk),
            facts={
                **weight_facts(model, checkpoint=checkpoint, ema=ema),
                "topk": topk,
                "image_size": image_size,
                "fused": fused,
            },
            image_size=size,
            batch_size=batch_size,
            workers=workers or os.cpu_count() or 1,
            device=device,
            backend=backend,
            precision=precision,
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecNextError("several processes share the images only for --output FILE.parquet")
    target = choose_device(device)
    found = find_images(images)
    if exported:
        assert model is not None
        network: nn.Module = ExportedNetwork(Path(model), trust=trust)
        forward: Any = network
    else:
        network = load(
            model, checkpoint=checkpoint, pretrained=pretrained, fused=True if fused else None, ema=ema, device=target
        )
        channels, *sides = resolve_model_data_config(network)["input_size"]
        example = torch.randn(batch_size, int(getattr(network, "in_chans", channels)), *(size or sides), device=target)
        forward = forward_for(network, example, backend=backend, precision=precision)
    results = classify(
        network, found, topk=topk, batch_size=batch_size, image_size=size, forward=forward, workers=workers
    )
    unreadable = _show(results, count_images(images), json=json, output=output)
    return _report(unreadable)


def _show(
    results: Iterator[Union[Prediction, Unreadable]], total: int, *, json: bool, output: Optional[Path]
) -> list[Unreadable]:
    """Prints results as they come; gives those that failed."""
    unreadable: list[Unreadable] = []
    with ExitStack() as stack:
        table = _open_csv(output, stack) if output else None
        print_result = _print_json(stack) if json else _print_line
        progress = stack.enter_context(_progress())
        task = progress.add_task("images", total=total)
        for result in results:
            print_result(result)
            if isinstance(result, Unreadable):
                unreadable.append(result)
            elif table is not None:
                table.writerows(
                    (result.image, rank, score.index, score.name, f"{score.probability:.6f}")
                    for rank, score in enumerate(result.classes, 1)
                )
            progress.advance(task)
    return unreadable


def _print_line(result: Union[Prediction, Unreadable]) -> None:
    if isinstance(result, Prediction):
        classes = ", ".join(f"{score.name} {100 * score.probability:.1f}%" for score in result.classes)
        print(f"{result.image}: {classes}", flush=sys.stdout.isatty())


def _print_json(stack: ExitStack) -> Any:
    """A printer of one JSON list, an object a line, that never holds more than one."""
    separator = "["

    def print_result(result: Union[Prediction, Unreadable]) -> None:
        nonlocal separator
        print(separator + jsonlib.dumps(asdict(result), ensure_ascii=False), end="")
        separator = ",\n "

    def end(error: Optional[type[BaseException]], *_: object) -> None:
        if error is None:
            print("[]" if separator == "[" else "]")

    stack.push(end)
    return print_result


def _open_csv(path: Path, stack: ExitStack) -> Any:
    path.unlink(missing_ok=True)  # a link is replaced, not followed
    writer = csv.writer(stack.enter_context(path.open("x", newline="", encoding="utf-8")))
    writer.writerow(_COLUMNS)
    return writer


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        disable=not sys.stderr.isatty(),
    )


def _report(unreadable: list[Unreadable]) -> int:
    if not unreadable:
        return 0
    for failed in unreadable[:_REPORTED]:
        print(f"recnext: cannot read {failed.image}: {failed.reason}", file=sys.stderr)
    if len(unreadable) > _REPORTED:
        print(f"recnext: and {len(unreadable) - _REPORTED} more", file=sys.stderr)
    print(f"recnext: {len(unreadable)} image{'s' * (len(unreadable) > 1)} could not be read", file=sys.stderr)
    return 1
