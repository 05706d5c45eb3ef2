"""What a run chooses where nothing was asked for."""

from types import SimpleNamespace

import pytest

from engine.runs import settings
from recnext.checkpoints import load, save
from recnext.engine.choosing import fit_batch, take_network, warn_of_few
from recnext.tasks.classification.settings import TrainSettings
from recnext.tasks.detection.settings import DetectSettings

ALONE = SimpleNamespace(num_processes=1)


@pytest.mark.parametrize(
    ("images", "processes", "expected"),
    [(100, 1, 8), (400, 1, 32), (640, 1, 64), (10_000, 1, 64), (12, 1, 8), (400, 2, 16)],
)
def test_few_images_have_ten_steps_an_epoch_where_they_can(images, processes, expected):
    chosen, note = fit_batch(
        TrainSettings(), images=images, accelerator=SimpleNamespace(num_processes=processes), given=set()
    )
    assert chosen.batch_size == expected
    assert (f"batch size {expected} instead of 64, as there are {images} images" in note) == (expected < 64)


def test_a_batch_that_was_asked_for_stays():
    asked = fit_batch(TrainSettings(batch_size=64), images=100, accelerator=ALONE, given={"batch_size"})
    assert asked == (TrainSettings(batch_size=64), "")
    assert fit_batch(TrainSettings(batch_size=50), images=100, accelerator=ALONE, given=None)[0].batch_size == 50
    assert fit_batch(DetectSettings(), images=12, accelerator=ALONE, given=None)[0].batch_size == 4
    assert fit_batch(TrainSettings(steps=9), images=12, accelerator=ALONE, given=None)[0].batch_size == 64


def test_few_steps_are_told():
    assert "only 30 optimizer steps" in warn_of_few(30)
    assert warn_of_few(3000) == ""


def test_a_small_batch_from_weights_learns_at_the_rate_of_64():
    assert TrainSettings(pretrained=True).peak_lr(8) == (
        1.25e-4,
        "batch 8 → lr 0.000125 (0.001 * max(batch, 64) / 512)",
    )
    assert TrainSettings(pretrained=True, lr_rule="linear").peak_lr(8)[0] == pytest.approx(1e-3 * 8 / 512)


def test_the_network_is_the_checkpoints(tmp_path):
    path = str(save(load("test_recnext_a", num_classes=3), tmp_path / "a.safetensors"))
    assert take_network(TrainSettings(checkpoint=path), given={"checkpoint"}).model == "test_recnext_a"
    assert take_network(settings(checkpoint=path), given=None).model == "test_recnext_m"  # as asked for


def test_a_run_of_few_images_says_what_it_chose(train, tmp_path):
    import io

    from rich.console import Console

    from recnext.engine.run import train as run
    from recnext.study.demo.digits import write_folders
    from recnext.tasks.classification.job import ClassificationJob

    write_folders(tmp_path / "data", per_class=2)
    console = Console(file=io.StringIO(), width=200)
    chosen = settings(epochs=1, output=str(tmp_path / "run"), batch_size=64)
    result = run(ClassificationJob(), chosen, data=tmp_path / "data", given={"epochs"}, console=console)
    assert result.records[0]["step"] == 2
    printed = console.file.getvalue()
    assert "batch size 8 instead of 64, as there are 20 images" in printed
    assert "only 2 optimizer steps" in printed
