import json
import os
import signal

import pytest
from rich.console import Console

from engine.runs import SpoiltJob, settings
from recnext.checkpoints import load, read_metadata, save
from recnext.cli.main import dispatch
from recnext.cli.training_run import run_training
from recnext.study.demo.digits import write_folders
from recnext.tasks.classification.job import ClassificationJob

TINY = ["--model=test_recnext_m", "--image-size=32", "--epochs=1", "--batch-size=10", "--workers=0", "--device=cpu"]
TINY += ["--no-curves"]  # drawing takes longer than the run


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    write_folders(root, per_class=3)
    return str(root)


def test_train_then_resume_says_what_it_does(data, tmp_path, capsys):
    run = tmp_path / "run"
    assert dispatch(["train", data, *TINY, f"--output={run}"]) == 0
    printed = capsys.readouterr().out
    assert "batch 10 → lr 0.001 (from scratch: 0.001 * max(batch, 512) / 512); 1 epoch of 3 steps" in printed
    assert "epoch 1/1  loss" in printed
    assert f"{run / 'best.safetensors'}" in printed
    metadata = read_metadata(run / "best.safetensors")
    assert metadata is not None
    assert metadata.class_names == tuple("0123456789")
    assert dispatch(["train", data, f"--output={run}", "--resume"]) == 0


def test_mistakes_are_one_line_and_exit_2(data, tmp_path, capsys):
    for arguments, message in (
        ([str(tmp_path / "none"), *TINY], "none does not exist: expected a folder with train/<class>/*"),
        ([data, *TINY, "--lr=-1"], "--lr is -1.0: expected a number from 0"),
        ([data, *TINY, "--device=tpu"], "no device is called 'tpu'"),
        ([data, *TINY, "--checkpoint=none.pth", f"--output={tmp_path / 'a'}"], "no checkpoint none.pth"),
    ):
        assert dispatch(["train", *arguments]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1


def test_a_stop_exits_143_with_one_line(data, tmp_path, capsys):
    """tests/engine/test_signals.py sends signals to processes of their own."""

    def stop(loss, batch):
        os.kill(os.getpid(), signal.SIGTERM)
        return loss

    run = tmp_path / "run"
    chosen = settings(batch_size=10, epochs=1, output=str(run))
    assert run_training(SpoiltJob(ClassificationJob(), stop), chosen, given=(), data=data) == 143
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"stopped in epoch 1/1 after step 1, saved in {run}: --resume goes on from there"
    assert (run / "state.pt").exists()


def test_fine_tuning_from_a_run_takes_its_network_and_arguments(data, tmp_path):
    args = json.dumps({"embed_dim": [8, 8, 16, 16], "depths": [1, 1, 1, 1]})
    narrow = [argument.replace("test_recnext_m", "recnext_m0") for argument in TINY]
    assert dispatch(["train", data, *narrow, f"--model-args={args}", f"--output={tmp_path / 'a'}"]) == 0
    start = f"--checkpoint={tmp_path / 'a'}"
    assert dispatch(["train", data, *narrow[1:], start, f"--output={tmp_path / 'b'}"]) == 0
    first, second = (read_metadata(tmp_path / name / "best.safetensors") for name in "ab")
    assert first is not None
    assert second is not None
    assert (second.model, list(second.model_args["embed_dim"])) == ("recnext_m0", [8, 8, 16, 16])
    assert dispatch(["train", data, f"--model-args={args}", f"--output={tmp_path / 'b'}", "--resume"]) == 0


def test_the_console_shows_a_bar_on_a_terminal(data, tmp_path):
    import io
    from pathlib import Path

    from recnext.engine.run import train
    from recnext.tasks.classification.job import ClassificationJob
    from recnext.tasks.classification.settings import TrainSettings

    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=True, width=150)
    options = {"model": "test_recnext_m", "image_size": 32, "epochs": 1, "batch_size": 10, "workers": 0}
    train(
        ClassificationJob(),
        TrainSettings(**options, device="cpu", output=str(tmp_path / "run")),
        data=Path(data),
        console=console,
    )
    shown = buffer.getvalue()
    assert "img/s" in shown
    assert "epoch 1/1" in shown


def test_resume_takes_words_in_any_place_and_refuses_what_contradicts(data, tmp_path, capsys):
    run = tmp_path / "run"
    assert dispatch(["train", "--resume", "auto", *TINY, f"--output={run}", data]) == 0
    assert dispatch(["train", "--resume", data, f"--output={run}"]) == 0
    capsys.readouterr()
    for flags, message in (
        (
            ["--lr-rule=auto", "--weight-decay=0.5"],
            "--weight-decay 0.5 differs from the 0.025 this run was started with",
        ),
        (["--epochs=1", "--batch-size=64"], "--batch-size 64 differs from the 10"),  # its default, but asked for
        (["--model=recnext_m1"], "--model recnext_m1 differs from the test_recnext_m"),
    ):
        assert dispatch(["train", data, f"--output={run}", "--resume", *flags]) == 2
        assert message in capsys.readouterr().err
    assert dispatch(["train", data, f"--output={run}", "--resume=auto", "--epochs=2"]) == 0
    printed = capsys.readouterr().out
    assert "extended from 1 to 2 epochs: the schedule is now the longer one" in printed
    assert "epoch 2/2" in printed


def test_flags_go_over_a_recipe_and_the_result_can_be_printed(data, capsys):
    import yaml

    with pytest.raises(SystemExit) as left:
        dispatch(["train", data, "--config=imagenet_m_base", "--model=recnext_m4", "--print_config"])
    assert not left.value.code
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["model"], printed["clip"], printed["epochs"]) == ("recnext_m4", "agc", 300)
    assert dispatch(["train", data, "--config=imagenet_x"]) == 2
    assert "no configuration 'imagenet_x', neither a file nor a recipe" in capsys.readouterr().err


def test_a_checkpoint_brings_its_network(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save(load("test_recnext_a", num_classes=7), tmp_path / "a.safetensors")
    flags = [flag for flag in TINY if not flag.startswith("--model")]
    assert dispatch(["train", data, *flags, f"--checkpoint={path}", "--ema"]) == 0
    printed = capsys.readouterr().out
    assert "in epoch 1: runs/test_recnext_a/best.safetensors" in printed
    assert "best averaged top-1" in printed
    assert (tmp_path / "runs" / "test_recnext_a" / "best_ema.safetensors").is_file()
