"""What holds for the files of every target; a subclass in the tests of each names the target."""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import timm
import torch
from torch import nn

from recnext.deploy.export import Exported, Target, described, export_to, target
from recnext.deploy.export.files import ExportedNetwork
from recnext.errors import RecNextError

ODD = (56, 72)
"""An A network's coarsest maps are resized from 4x5 to 7x9."""
NAMES = ("ant", "Käfer", "cat [bold]", "dog", "eel")


def network(name: str = "test_recnext_m", *, names: tuple[str, ...] = NAMES, **options: Any) -> nn.Module:
    """A network of named classes, random weights and norms that are not the identity."""
    torch.manual_seed(0)
    made = timm.create_model(name, **{"num_classes": len(names), **options}).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.8, 1.2)  # type: ignore[union-attr]
    made.pretrained_cfg = {**made.pretrained_cfg, "label_names": names}  # type: ignore[dict-item, arg-type]
    return made


def exported(target: Target, folder: Path, name: str = "test_recnext_m", **choices: Any) -> Exported:
    """A network of `network`, or with `features` its four maps; of the size `ODD` where none is given."""
    model = network(name, **({"features_only": True, "num_classes": 0} if choices.pop("features", False) else {}))
    return export_to(target, model, described(model, name=name, **{"size": ODD, **choices}), folder, threads=1)


def contents_of(path: Path) -> list[Path]:
    """The files of an export: itself and what belongs to it, or those in its folder; without its report."""
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.stem}.*")
    return sorted(file for file in files if file.is_file() and not file.name.endswith(f"{path.suffix}.json"))


class ExportContract:
    """Tests of one target."""

    name: ClassVar[str]
    size: ClassVar[tuple[int, int]] = ODD
    """Of images; torch.export takes other sizes only above 64 pixels."""
    opened: ClassVar[bool] = True
    """Whether `ExportedNetwork` takes its files."""
    tolerance: ClassVar[float] = 1e-5
    repeatable: ClassVar[bool] = True
    """Whether equal exports of one process are equal files."""

    def test_the_file_is_the_network(self, made: Exported) -> None:
        assert made.problem == ""
        assert made.norms == 0
        assert max(row.relative for row in made.comparisons) < self.tolerance
        assert all(row.agreement == 1 for row in made.comparisons)
        report = json.loads(made.path.with_name(f"{made.path.name}.json").read_text(encoding="utf-8"))
        assert report["passed"] is True
        assert report["versions"]["torch"]
        assert not [path for path in made.path.parent.iterdir() if path.name.startswith(".")]

    @pytest.mark.parametrize("name", ["test_recnext_m", "test_recnext_l"])
    def test_other_series_are_equal_too(self, name: str, tmp_path: Path) -> None:
        choices = {"dynamic_batch": False, "dynamic_size": False}
        made = exported(target(self.name), tmp_path, name, **choices)
        assert made.problem == ""
        assert made.comparisons[0].relative < self.tolerance

    def test_sizes_are_free_or_fixed_as_the_target_says(self, made: Exported) -> None:
        one = target(self.name)
        shapes = [row.shape for row in made.comparisons]
        height, width = self.size
        if one.dynamic:
            odd = (3, 3, height | 1, (width + width // 8) | 1)
            assert shapes == [(1, 3, height, width), (3, 3, height, width), (1, 3, height + 32, width), odd]
            assert made.contents.inputs[0].shape in ((None, 3, None, None), ())  # (): TorchScript does not say
            return
        assert shapes == [(1, 3, height, width)]
        with pytest.raises(RecNextError, match="takes "):
            one.open_made(made.path, described(network()), threads=1)[0](np.zeros((2, 3, 32, 32), np.float32))

    def test_what_is_known_travels_in_the_file(self, made: Exported) -> None:
        header = target(self.name).header(made.path)
        assert header["recnext.model"] == "test_recnext_a"
        assert json.loads(header["recnext.class_names"]) == list(NAMES)
        assert json.loads(header["recnext.input_size"]) == [3, *self.size]

    def test_it_runs_by_its_name_in_capitals_too(self, made: Exported, tmp_path: Path) -> None:
        if not self.opened:
            pytest.skip("not to be run here")
        for part in contents_of(made.path):
            (tmp_path / f"FILE{part.suffix.upper()}").write_bytes(part.read_bytes())
        opened = ExportedNetwork(tmp_path / f"FILE{made.path.suffix.upper()}", threads=1, trust=True)
        assert opened.pretrained_cfg["label_names"] == NAMES
        images = torch.randn(1, 3, *self.size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = network("test_recnext_a")(images)
        torch.testing.assert_close(opened(images), expected, atol=1e-4, rtol=1e-3)

    def test_equal_exports_are_equal_files(self, made: Exported, tmp_path: Path) -> None:
        if not self.repeatable:
            pytest.skip("names are counted since the process began")
        again = exported(target(self.name), tmp_path, "test_recnext_a", size=self.size)
        digests = [
            [hashlib.sha256(file.read_bytes()).hexdigest() for file in contents_of(one.path)] for one in (made, again)
        ]
        assert digests[0] == digests[1]

    def test_a_network_of_nan_is_refused(self, tmp_path: Path) -> None:
        model = network()
        spec = described(model, size=(32, 32), dynamic_batch=False, dynamic_size=False)
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        with pytest.raises(RecNextError, match="outputs that are not numbers"):
            described(model, size=(32, 32))
        assert export_to(target(self.name), model, spec, tmp_path / "out").problem == (
            "outputs are not numbers, or of other shapes"
        )
        assert not (tmp_path / "out").exists()

    def test_a_damaged_file_is_one_line(
        self, made: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        one = target(self.name)
        for part in contents_of(made.path):
            data = part.read_bytes()
            for content in (b"", b"not a network", data[: len(data) // 2]):
                copy = tmp_path / made.path.name
                self.copy(made.path, copy)
                (copy / part.relative_to(made.path) if copy.is_dir() else tmp_path / part.name).write_bytes(content)
                with pytest.raises(RecNextError) as caught:
                    ExportedNetwork(copy, trust=True) if self.opened else one.load(copy)
                assert "\n" not in str(caught.value)
                assert made.path.name in str(caught.value)
        assert capfd.readouterr().err == ""

    @staticmethod
    def copy(path: Path, place: Path) -> None:
        """All files of an export, to a place of the same name."""
        for part in contents_of(path):
            to = place / part.relative_to(path) if path.is_dir() else place.parent / part.name
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(part.read_bytes())
