"""What every task promises of its runs; a class of tests for each job."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cli.command import run_json
from engine.processes import finish, start
from engine.runs import Killed, SpoiltJob, assert_same_run, killed_at, metrics
from recnext.checkpoints.metadata import read_metadata
from recnext.data.images import UnreadableImageError
from recnext.engine.accelerator import make_accelerator
from recnext.engine.run import train
from recnext.errors import RecNextError
from recnext.study.report import build_report


class TaskContract:
    """Runs of a second on a few images.

    Attributes:
        job: of the task.
        depth: of the image files below a folder that has no others.
    """

    job: Any
    depth = 1

    def settings(self, **changes: Any) -> Any:
        """Two epochs of at least three steps."""
        raise NotImplementedError

    def write_data(self, root: Path) -> Path:
        """Data to train on."""
        raise NotImplementedError

    def image(self, root: Path, split: str) -> Path:
        """One of its image files."""
        raise NotImplementedError

    def relabel(self, root: Path, split: str) -> None:
        """Gives images other labels; their number and the classes stay."""
        raise NotImplementedError

    def train(self, output: Path, data: Path, *, job: Any = None, **options: Any) -> Any:
        hooks = {name: options.pop(name) for name in ("on_step", "on_period", "console") if name in options}
        return train(job or self.job, self.settings(output=str(output), **options), data=data, **hooks)

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return cls().write_data(tmp_path_factory.mktemp("data"))

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A run that nothing happened to."""
        folder = tmp_path_factory.mktemp("whole") / "run"
        cls().train(folder, data, curves=True)
        return folder

    def test_a_killed_run_goes_on_bit_for_bit(self, whole: Path, data: Path, tmp_path: Path) -> None:
        with pytest.raises(Killed):
            self.train(tmp_path, data, save_every=2, on_step=killed_at(-1))
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert state["step"] > 0  # in the middle of an epoch
        self.train(tmp_path, data, resume=True)
        assert_same_run(whole, tmp_path)

    def test_nan_stops_before_the_step_and_names_the_images(self, whole: Path, data: Path, tmp_path: Path) -> None:
        seen: list[Any] = []
        periods: list[Any] = []

        def spoil(loss: torch.Tensor, batch: Any) -> torch.Tensor:
            seen.append(batch.names)
            return loss * math.nan if periods else loss

        with pytest.raises(RecNextError, match=r"the loss is nan in epoch 2, step 1: stopped before that step.*keeps"):
            self.train(tmp_path, data, job=SpoiltJob(self.job, spoil), on_period=periods.append)
        report = json.loads((tmp_path / "diverged.json").read_text())
        assert [batch["files"] for batch in report["batches"]] == [list(seen[-1])]
        assert all(Path(name).is_file() for name in seen[-1])
        self.train(tmp_path, data, resume=True)
        assert not (tmp_path / "diverged.json").exists()
        assert_same_run(whole, tmp_path)

    def test_an_unreadable_image_is_replaced_and_counted(self, tmp_path: Path) -> None:
        root = self.write_data(tmp_path / "data")
        broken = self.image(root, "train")
        broken.write_bytes(broken.read_bytes()[:70])
        with pytest.raises(RecNextError, match=f"1 of [0-9]+ training images are unreadable.*{broken.name}"):
            self.train(tmp_path / "strict", root, max_unreadable=0)
        result = self.train(tmp_path / "run", root, max_unreadable=0.5)
        assert sum(record["unreadable"] for record in result.records) >= 1

    def test_an_unreadable_image_in_the_evaluation_is_an_error(self, tmp_path: Path) -> None:
        root = self.write_data(tmp_path / "data")
        broken = self.image(root, "val")
        content = broken.read_bytes()
        broken.write_bytes(content[:70])
        with pytest.raises(UnreadableImageError, match=broken.name):
            self.train(tmp_path / "run", root, epochs=1)
        broken.write_bytes(content)
        steps: list[Any] = []
        result = self.train(tmp_path / "run", root, epochs=1, resume=True, on_step=steps.append)
        assert len(result.records) == 1
        assert not steps  # the epoch is kept: only its evaluation was left

    def test_other_data_are_refused_and_moved_data_are_not(self, whole: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        shutil.copytree(whole, run)
        self.train(run, self.write_data(tmp_path / "moved"), resume=True)
        for split, name in (("train", "training"), ("val", "validation")):
            other = self.write_data(tmp_path / split)
            self.relabel(other, split)
            with pytest.raises(RecNextError, match=f"other data .names, sizes or labels of the {name} images differ"):
                self.train(run, other, epochs=3, resume=True)

    def test_images_that_cannot_be_read_at_all_are_counted_and_named(self, tmp_path: Path) -> None:
        root = self.write_data(tmp_path / "data")
        first = self.image(root, "train")
        content = first.read_bytes()
        for path in first.parents[self.depth - 1].rglob(f"*{first.suffix}"):
            path.write_bytes(b"broken")
        with pytest.raises(
            RecNextError, match=r"none of the [0-9]+ images in .* can be read; the first: .*cannot read"
        ):
            self.train(tmp_path / "all", root)
        first.write_bytes(content)
        with pytest.raises(UnreadableImageError, match=r"more than --max-unreadable 0\.01 allows: .*cannot read"):
            self.train(tmp_path / "run", root)
        assert not (tmp_path / "run" / "diverged.json").exists()
        assert len(json.loads((tmp_path / "run" / "unreadable.json").read_text())) > 1

    def test_two_ranks_train_one_model_and_see_each_image_once(self, data: Path, tmp_path: Path) -> None:
        chosen = self.settings(output=str(tmp_path), epochs=1)
        assert finish(start(chosen, data=data, job=self.job, ranks=2)) == [0, 0]
        (record,) = metrics(tmp_path)
        splits = self.job.open(chosen, data)
        model = self.job.build(chosen, splits, weights=False)
        model.load_state_dict(load_file(tmp_path / "last.safetensors"))
        accelerator = make_accelerator(device="cpu")
        task = self.job.task(chosen, model, splits, accelerator)
        loader = self.job.loaders(chosen, model, splits, accelerator)[1]
        alone = task.evaluate(
            model.eval(), loader, device=accelerator.device, precision=None, should_stop=lambda: False
        )()
        assert {key: record[key] for key in alone} == pytest.approx(alone, abs=1e-4)

    def test_metrics_are_in_curves_plot_and_report(
        self, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monitored = self.job.metrics[0]
        records = metrics(whole)
        assert all(metric.key in record for metric in self.job.metrics for record in records)
        assert (whole / "curves.png").is_file()
        best = monitored.best(records)
        summary = json.loads((whole / "summary.json").read_text())
        assert (summary["task"], summary["best_epoch"]) == (self.job.name, best["epoch"] + 1)
        assert summary["best"] == {metric.key: best[metric.key] for metric in self.job.metrics if metric.key in best}
        header = read_metadata(whole / "best.safetensors")
        assert header is not None
        assert header.epoch == best["epoch"]
        drawn = run_json(capsys, "plot", whole, f"--output={tmp_path / 'curves.png'}")
        assert (drawn["metric"], drawn["runs"][0]["best"]) == (monitored.key, best[monitored.key])
        shutil.copytree(whole, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors"))
        page = build_report(tmp_path / "copy")
        assert f"<dt>best {monitored.title}</dt><dd>{best[monitored.key]:.2f} %</dd>" in page
