"""`recnext export`: a network as files for other runtimes, with the proof that they are the same network."""

import sys
from pathlib import Path
from typing import Any, Literal, Optional

from torch import nn

from recnext.checkpoints import load
from recnext.checkpoints.loading import check_name
from recnext.checkpoints.reading import read_weights
from recnext.deploy.export import Exported, export, targets
from recnext.deploy.export.accuracy import CALIBRATION
from recnext.deploy.export.api import check_request
from recnext.deploy.export.report import lines, table
from recnext.deploy.export.spec import PRECISIONS
from recnext.errors import RecNextError
from recnext.precision import parse_precision
from recnext.screen import Screen
from recnext.sizes import parse_size
from recnext.tasks.detection.checkpoint import is_detector
from recnext.tasks.detection.checkpoint import load as load_detector
from recnext.tasks.segmentation.checkpoint import is_segmenter
from recnext.tasks.segmentation.checkpoint import load as load_segmenter

from .shared import print_json, require_at_least

_WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")  # names that end so are meant to be files


def run(
    model: str,
    *,
    checkpoint: Optional[str] = None,
    pretrained: bool = False,
    ema: bool = False,
    to: str = "onnx",
    output: Path = Path("exported"),
    precision: str = "fp32",
    size: Optional[str] = None,
    batch: int = 1,
    dynamic: bool = True,
    features: bool = False,
    with_preprocess: bool = False,
    name: Optional[str] = None,
    opset: Optional[int] = None,
    weights: Optional[Literal["int8", "palettised"]] = None,
    delegate: Literal["xnnpack", "coreml"] = "xnnpack",
    calibrate: Optional[Path] = None,
    images: int = CALIBRATION,
    validate: Optional[Path] = None,
    max_loss: float = 0.5,
    threads: Optional[int] = None,
    json: bool = False,
    overwrite: bool = False,
) -> int:
    """Exports a network and proves each file against the original before it appears.

    Exits with 1 when a file differs by more than 1e-4 (fp32) or 5e-3 (fp16) of the outputs' spread, or loses more
    top-1 than --max-loss; such a file is not written. Beside each file lies FILE.json, its proof. Of a detector, the
    backbone with its pyramid is exported; of a segmenter, all but the enlarging of its logits.

    Args:
        model: a timm name, such as recnext_m1; or a weight file or run folder.
        checkpoint: weight file, run folder or hub id for that name; without weights they are random, which is good
            enough to measure speed.
        pretrained: the published weights of the name.
        ema: take the moving average of the weights.
        to: targets with commas: torch, torchscript, onnx, openvino, coreml, executorch, litert.
        output: folder for the files.
        precision: fp32, fp16, int8, or several with commas; int8 needs --calibrate.
        size: N or HxW in pixels; by default the one of the weights.
        batch: images at once, where that is fixed.
        dynamic: any batch and image size, where the format can.
        features: the four maps of a backbone instead of classes.
        with_preprocess: uint8 pixels (N, H, W, C) in, probabilities out.
        name: of the files; by default the network's.
        opset: of ONNX.
        weights: of Core ML, smaller: int8 or palettised.
        delegate: of ExecuTorch: xnnpack or coreml.
        calibrate: folder of images for int8, of any classes.
        images: how many of them to take.
        validate: folder of labelled images, DATA/val/CLASS/* or DATA/CLASS/*, to measure accuracy on.
        max_loss: largest loss of top-1 there, in points.
        threads: CPU threads while a file is timed; by default its runtime's choice.
        json: print JSON instead of a table.
        overwrite: replace files that this command did not write.
    """
    require_at_least(1, batch=batch, images=images, threads=threads)
    chosen = [part.strip() for part in to.split(",") if part.strip()]
    precisions = _precisions(precision)
    choices = {"opset": opset, "compression": weights, "delegate": delegate}
    check_request(  # before weights are read
        targets(chosen), output, precisions=precisions, calibrate=calibrate, max_loss=max_loss, **choices
    )
    network = _network(model, checkpoint, pretrained=pretrained, ema=ema, features=features)
    with Screen(stderr=True).status("reading") as status:
        made = export(
            network,
            output,
            to=chosen,
            precisions=precisions,
            calibrate=calibrate,
            images=images,
            validate=validate,
            max_loss=max_loss,
            threads=threads,
            progress=status.update,
            name=name,
            size=parse_size(size) if size else None,
            batch=batch,
            dynamic_batch=dynamic,
            dynamic_size=dynamic,
            preprocess=with_preprocess,
            overwrite=overwrite,
            inputs=[checkpoint or model],
            **choices,
        )
    _show(made, output, json=json)
    return int(any(item.problem for item in made))


def _precisions(text: str) -> list[str]:
    found = [parse_precision(part.strip(), choices=PRECISIONS) for part in text.split(",") if part.strip()]
    if not found:
        raise RecNextError(f"--precision is {text!r}: expected {', '.join(PRECISIONS)}, or several with commas")
    return list(dict.fromkeys(found))


def _network(model: str, checkpoint: Optional[str], *, pretrained: bool, ema: bool, features: bool) -> nn.Module:
    """What to export."""
    options: dict[str, Any] = {"ema": ema, "features_only": features}
    if Path(model).exists():
        if checkpoint is not None:
            raise RecNextError(f"{model} and {checkpoint} are both weights: give one, or a network's name")
        if pretrained:
            raise RecNextError(f"{model} has its own weights: leave --pretrained out")
        weights = read_weights(model)
        if is_segmenter(weights):
            return load_segmenter(model, ema=ema)
        return load_detector(model) if is_detector(weights) else load(checkpoint=model, **options)
    if Path(model).name != model or Path(model).suffix in _WEIGHTS:
        raise RecNextError(f"there is no {model}: expected a network's name, a weight file or a run folder")
    check_name(model)
    if checkpoint is None and not pretrained:
        print(f"recnext: {model} has random weights: good for measuring speed only", file=sys.stderr)
    return load(model, checkpoint=checkpoint, pretrained=pretrained, **options)


def _show(made: list[Exported], output: Path, *, json: bool) -> None:
    if json:
        print_json([item.to_json() for item in made])
        return
    screen = Screen()
    screen.print(table(made))
    for item in made:
        screen.print("\n".join(lines(item)))
    kept = [item.path.name for item in made if not item.problem]
    if kept:
        screen.print(f"in {output}: {', '.join(kept)}")
