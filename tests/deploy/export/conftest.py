from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch

from deploy.export.contract import exported, network
from recnext.deploy.export import Exported, described, export_to, target

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


@pytest.fixture(scope="session")
def tiny() -> torch.nn.Module:
    """A classifier of seven named classes, whose norms are not the identity."""
    return network(names=NAMES)


@pytest.fixture(scope="session")
def exports(tiny: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """The tiny classifier in the formats that run anywhere: any batch and size, and of pixels with a fixed size."""
    folder: Path = tmp_path_factory.mktemp("exports")
    spec = described(tiny, size=(64, 64), name="tiny")
    pixels = replace(spec, name="pixels", preprocess=True, dynamic_batch=False, dynamic_size=False, batch=2)
    pixels = replace(pixels, outputs=("probabilities",), precision="fp16")
    made = {name: export_to(target(name), tiny, spec, folder, threads=1) for name in ("onnx", "openvino", "torch")}
    made["pixels"] = export_to(target("onnx"), tiny, pixels, folder, threads=1)
    return made


@pytest.fixture(scope="class")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Of an `ExportContract`: an A network, so that attention and nearest resizing are in it."""
    one = request.cls
    return exported(target(one.name), tmp_path_factory.mktemp(one.name), "test_recnext_a", size=one.size)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's network after a few epochs in `run`, and the digits in `data`."""
    from rich.console import Console

    from recnext.data import DataSplits
    from recnext.engine.run import train
    from recnext.study.demo.classification import demo_settings
    from recnext.study.demo.digits import CLASS_NAMES, Digits, write_folders
    from recnext.tasks.classification.job import ClassificationJob

    folder = tmp_path_factory.mktemp("digits")
    write_folders(folder / "data")
    splits = DataSplits(train=Digits("train"), val=Digits("val"), class_names=CLASS_NAMES, source="digits")
    train(ClassificationJob(), demo_settings(folder / "run", epochs=3), data=splits, console=Console(file=StringIO()))
    return folder
