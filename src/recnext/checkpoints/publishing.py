"""A run as a folder for the hub: weights, the ``config.json`` that timm loads, and a model card."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from timm.models._hub import save_config_for_hf
from torch import nn

from recnext.errors import RecNextError
from recnext.files import MARK, require_outputs, write_atomically
from recnext.text import read_yaml

from .loading import load
from .model_card import write_card
from .saving import describe, save
from .sources import EMA_RUN_FILES, WEIGHT_SUFFIXES

WEIGHTS = "model.safetensors"  # the name that timm and recnext.load look for
EMA_WEIGHTS = "model_ema.safetensors"
FUSED_WEIGHTS = "model_fused.safetensors"
EMA_FUSED_WEIGHTS = "model_ema_fused.safetensors"
_FILES = {  # by name, what stands in those of this function
    **dict.fromkeys((WEIGHTS, EMA_WEIGHTS, FUSED_WEIGHTS, EMA_FUSED_WEIGHTS), '"recnext.model":'),
    "config.json": '"architecture"',
    "curves.png": MARK,
    "README.md": "recnext",
}


def publish(
    source: str,
    output: Path,
    *,
    name: Optional[str] = None,
    repository: Optional[str] = None,
    license: Optional[str] = None,
    overwrite: bool = False,
) -> list[Path]:
    """Writes everything a hub repository of a network needs.

    ``model.safetensors`` holds the run's best weights, ``model_ema.safetensors`` its moving average where it kept one,
    ``*_fused.safetensors`` the same with every BatchNorm folded (for `recnext.load`; timm's network is not fused).

    Args:
        source: run folder, or any checkpoint of `recnext.load`.
        output: folder to write; made where missing.
        name: of the network, where the checkpoint does not name it.
        repository: hub id for the card's examples; by default the folder's name.
        license: of the weights, an identifier such as "apache-2.0".
        overwrite: replace files that were not published from here.

    Returns:
        The files written.

    Raises:
        RecNextError: no such run or checkpoint, or its weights are folded, so that timm could not load them.
        OSError: a file cannot be written.
    """
    place = Path(source).resolve()
    if place.exists() and output.resolve() in (place, place.parent):
        raise RecNextError(f"{source} is in {output}, whose weights would be replaced: give another folder")
    for file, mark in _FILES.items():
        published = file == "curves.png" and (output / "README.md").is_file()  # a copy, whoever drew it
        require_outputs(output, [file], overwrite=overwrite or published, mark=mark)
    _require_no_other_weights(output)
    model = load(name, checkpoint=source)
    metadata = describe(model)
    if metadata.fused:
        raise RecNextError(
            f"{source} holds folded weights, which timm cannot load: publish the run, or its best weights"
        )
    output.mkdir(parents=True, exist_ok=True)
    epoch = _epoch(source)
    written = [save(model, output / WEIGHTS, epoch=epoch), _write_config(model, output)]
    written.append(save(load(name, checkpoint=source, fused=True), output / FUSED_WEIGHTS, epoch=epoch))
    if Path(source).is_dir() and any((Path(source) / file).is_file() for file in EMA_RUN_FILES):
        for file, fused in ((EMA_WEIGHTS, None), (EMA_FUSED_WEIGHTS, True)):
            written.append(save(load(name, checkpoint=source, ema=True, fused=fused), output / file, epoch=epoch))
    curves = Path(source) / "curves.png"
    if curves.is_file():
        written.append(Path(shutil.copy(curves, output / curves.name)))
    card = write_card(
        metadata,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        run=_read(Path(source) / "config.yaml"),
        summary=_read(Path(source) / "summary.json"),
        files=[path.name for path in written],
        repository=repository or f"local-dir:{output.resolve().name}",
        license=license,
    )
    write_atomically(output / "README.md", card.encode("utf-8"))
    written.append(output / "README.md")
    for left in {output / file for file in _FILES} - set(written):
        left.unlink(missing_ok=True)  # of an older run
    return written


def push(folder: Path, *, repository: str, private: bool = False) -> str:
    """Uploads a folder of `publish` to the hub, making the repository where it does not exist.

    Args:
        folder: as `publish` left it.
        repository: owner/name.
        private: a new repository is seen by its owner only.

    Returns:
        The address of the repository.

    Raises:
        RecNextError: there is no login, no right to write, or no network.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Weights of {repository}")
    except LocalTokenNotFoundError:
        raise RecNextError("pushing to the hub needs a login: run 'hf auth login', or set HF_TOKEN") from None
    except HFValidationError:
        raise RecNextError(f"{repository!r} is no hub id: expected owner/name") from None
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RecNextError(
            f"the hub did not take {repository} ({reason}); the files are in {folder}: push again with the same command"
        ) from None
    return str(address)


def _require_no_other_weights(folder: Path) -> None:
    """A push uploads the folder: weights of something else must not go along."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in WEIGHT_SUFFIXES and (path.name not in _FILES or path.parent != folder):
            raise RecNextError(
                f"{folder} holds {path.relative_to(folder)}, which would be published too: give a folder of its own"
            )


def _write_config(model: nn.Module, output: Path) -> Path:
    """timm's own description of the network, by timm's own function."""
    described = describe(model)
    config: dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or {})
    path = output / "config.json"
    save_config_for_hf(
        model,
        str(path),
        model_config={"label_names": list(described.class_names)} if described.class_names else None,
        model_args=dict(described.model_args),
        data_config={key: config[key] for key in ("mean", "std", "crop_pct", "interpolation") if key in config},
    )
    written = json.loads(path.read_text(encoding="utf-8"))
    written.get("model_args", {}).pop("num_classes", None)  # transformers takes it from the top level, and only once
    write_atomically(path, json.dumps(written, indent=2).encode())
    return path


def _epoch(source: str) -> Optional[int]:
    best = _read(Path(source) / "summary.json").get("best_epoch")
    return best - 1 if isinstance(best, int) else None  # a header counts from 0


def _read(path: Path) -> Mapping[str, Any]:
    """A YAML or JSON mapping; empty where there is none."""
    if not path.is_file():
        return {}
    content = read_yaml(path)
    return content if isinstance(content, dict) else {}
