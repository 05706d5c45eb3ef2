"""A run that was stopped and resumed is, bit for bit, the run that was not (CPU, float32)."""

import os
import shutil
import signal

import pytest
import torch

from engine.processes import kill_after_save, start
from engine.runs import Killed, assert_same_run, killed_at, settings
from recnext.engine.run import train
from recnext.engine.run_folder import RunFolder, pack_state
from recnext.errors import RecNextError
from recnext.tasks.classification.job import ClassificationJob

OPTIONS = {"ema": True, "lr": 0.01, "model_args": {"drop_path_rate": 0.2}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, digit_folders):

    path = tmp_path_factory.mktemp("whole") / "run"
    train(ClassificationJob(), settings(output=str(path), **OPTIONS), data=digit_folders)
    return path


@pytest.mark.parametrize(
    ("steps", "save_every", "workers"),
    [(6, 0, 0), (7, 0, 2), (3, 2, 0)],
    ids=["start of an epoch", "mid-epoch without saves", "mid-epoch"],
)
def test_killed_and_resumed(train, tmp_path, whole, steps, save_every, workers):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(folder, **OPTIONS, save_every=save_every, on_step=killed_at(steps))
    train(folder, resume=True, workers=workers)
    assert_same_run(whole, folder)


def signalled_at(step, number):
    def send(done):
        if done.number == step:
            os.kill(os.getpid(), number)

    return send


def test_signal_in_mid_epoch_saves_and_resumes(train, tmp_path, whole):
    folder = tmp_path / "run"
    result = train(folder, **OPTIONS, on_step=signalled_at(6, signal.SIGTERM))
    assert (result.interrupted, result.position) == (signal.SIGTERM, (1, 2))  # after the step that was under way
    assert not (folder / "summary.json").exists()
    train(folder, resume=True)
    assert_same_run(whole, folder)


def test_signal_during_evaluation_saves_the_trained_epoch(train, tmp_path, whole):
    folder = tmp_path / "run"
    result = train(folder, **OPTIONS, on_step=signalled_at(5, signal.SIGINT))
    assert (result.interrupted, result.position) == (signal.SIGINT, (0, 5))
    train(folder, resume=True)
    assert_same_run(whole, folder)


def test_resuming_a_finished_run_changes_nothing(train, tmp_path, whole):
    before = {path.name: path.read_bytes() for path in whole.iterdir() if path.suffix == ".safetensors"}
    result = train(whole, resume=True)
    assert len(result.records) == 2
    assert {name: (whole / name).read_bytes() for name in before} == before


def test_a_resumed_run_keeps_its_settings(train, whole, digit_folders, tmp_path):
    with pytest.raises(RecNextError, match=r"--lr 0\.5 differs from the 0\.01 this run was started with"):
        train(whole, resume=True, lr=0.5)
    with pytest.raises(RecNextError, match="already holds a run: --resume goes on with it"):
        train(whole)
    with pytest.raises(RecNextError, match="holds no run to resume"):
        train(tmp_path / "none", resume=True)


def test_other_data_is_refused(whole, digit_folders, tmp_path):

    shutil.copytree(digit_folders, tmp_path / "fewer")
    next((tmp_path / "fewer" / "train" / "3").iterdir()).unlink()
    with pytest.raises(RecNextError, match=r"other data \(40 training images, now 39"):
        train(ClassificationJob(), settings(output=str(whole), resume=True), data=tmp_path / "fewer")


def test_a_flipped_bit_is_noticed_and_the_older_state_serves(train, tmp_path, whole):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(folder, **OPTIONS, keep=2, on_step=killed_at(7))
    state = folder / "state.pt"
    for share in (0.2, 0.5, 0.8):
        content = bytearray(state.read_bytes())
        content[int(share * len(content))] ^= 0x40
        state.write_bytes(content)
        with pytest.raises(RecNextError, match=r"state\.pt is damaged \(its checksum is another\): start again from"):
            RunFolder(folder).load_state()
        content[int(share * len(content))] ^= 0x40
        state.write_bytes(content)
    train(folder, resume=True)
    assert_same_run(whole, folder)


def test_a_state_of_another_network_is_one_line(train, tmp_path):
    train(tmp_path / "run", epochs=1)
    state = RunFolder(tmp_path / "run").load_state()[0]
    for change in ({"model": {}}, {"processes": "many"}, {"optimizer": None}, {"step": -1}, {"records": [{}]}):
        (tmp_path / "run" / "state.pt").write_bytes(pack_state({**state, **change}))
        with pytest.raises(RecNextError, match="the state of another network or program") as caught:
            train(tmp_path / "run", epochs=2, resume=True)
        assert "\n" not in str(caught.value)


def test_a_second_training_in_the_folder_is_refused(train, tmp_path):
    folder = tmp_path / "run"
    train(folder, epochs=1)
    (folder / ".state.pt.left.tmp").write_bytes(b"of a killed save")
    with RunFolder(folder).held():
        assert not (folder / ".state.pt.left.tmp").exists()
        with pytest.raises(RecNextError, match=f"another process is writing the run in {folder}"):
            train(folder, epochs=2, resume=True)
    assert len(train(folder, epochs=2, resume=True).records) == 2


@pytest.mark.parametrize("resume", [False, "auto"])
def test_a_run_never_replaces_files_of_something_else(train, tmp_path, resume):
    for name in ("best.safetensors", "metrics.jsonl", "config.yaml", "summary.json"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("colour: red")
        (folder / ".notes.tmp").write_text("mine")
        with pytest.raises(RecNextError, match=f"{name} (exists and is of no run|holds no settings of a run)"):
            train(folder, epochs=1, resume=resume)
        assert {path.name: path.read_text() for path in folder.iterdir() if path.name != ".lock"} == {
            name: "colour: red",
            ".notes.tmp": "mine",
        }


def test_a_lock_does_not_outlive_its_process_in_loading_processes(digit_folders, tmp_path):
    folder = tmp_path / "run"
    running = start(settings(output=str(folder), epochs=500, save_every=1, workers=1), data=digit_folders)
    assert kill_after_save(running, folder / "state.pt", seconds=0)
    with RunFolder(folder).held():  # the loading process notices some seconds later
        assert RunFolder(folder).has_state()


def test_a_damaged_state_is_named(train, tmp_path):
    train(tmp_path / "run", epochs=1)
    state = tmp_path / "run" / "state.pt"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(RecNextError, match=r"state\.pt is damaged .* --checkpoint"):
        train(tmp_path / "run", epochs=1, resume=True)


def test_a_state_is_data_not_a_program(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save({"model": Attack()}, tmp_path / "state.pt")
    with pytest.raises(RecNextError, match="damaged"):
        RunFolder(tmp_path).load_state()


def test_auto_starts_a_run_and_goes_on_with_it(train, tmp_path):
    assert len(train(tmp_path / "run", epochs=1, resume="auto").records) == 1
    assert len(train(tmp_path / "run", epochs=2, resume="auto").records) == 2


def test_more_epochs_are_a_longer_run_from_there_on(train, tmp_path):
    folder = tmp_path / "run"
    first = train(folder, epochs=1, lr=0.01, schedule="poly", warmup_epochs=0.0)
    result = train(folder, epochs=3, resume=True)
    assert [record["epoch"] for record in result.records] == [0, 1, 2]
    assert result.records[0] == first.records[0]
    expected = [1e-5 + (0.01 - 1e-5) * (1 - step / 15) ** 0.9 for step in (9, 14)]  # the schedule of three epochs
    assert [record["lr"] for record in result.records[1:]] == pytest.approx(expected, rel=1e-12)
    with pytest.raises(RecNextError, match="--epochs 2 differs from the 3 this run was started with"):
        train(folder, epochs=2, resume=True)


def test_a_setting_asked_for_counts_even_where_it_is_the_default(whole, digit_folders):
    now = settings(output=str(whole), resume=True, lr=None, weight_decay=0.025, seed=0)
    train(ClassificationJob(), now, data=digit_folders, given={"weight_decay", "seed", "workers"})
    with pytest.raises(RecNextError, match=r"--lr None differs from the 0\.01 this run was started with"):
        train(ClassificationJob(), now, data=digit_folders, given={"lr"})
    with pytest.raises(RecNextError, match="--ema False differs from the True"):
        train(ClassificationJob(), now, data=digit_folders, given={"ema"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 8", "batch_size: many", 'settings of a run: Parser key "batch_size".*many'),
        ("batch_size: 8", "batch_size: 1", "config.yaml: --batch-size is 1: expected an integer from 2"),
        ("batch_size: 8", "batchsize: 8", "settings of a run: .*batchsize"),
        ("settings:", "setting:", "holds no settings of a run: was it edited"),
        ("settings:", "settings: [", "is not valid YAML"),
    ],
)
def test_an_edited_config_is_one_line(train, tmp_path, old, new, message):
    train(tmp_path / "run", epochs=1)
    config = tmp_path / "run" / "config.yaml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    with pytest.raises(RecNextError, match=message) as caught:
        train(tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value) or "YAML" in str(caught.value)  # the command joins lines


def test_an_older_state_serves_when_the_newest_is_damaged(train, tmp_path, monkeypatch, whole, capsys):
    folder = tmp_path / "run"
    train(folder, **{**OPTIONS, "keep": 2})
    assert sorted(path.name for path in (folder / "states").iterdir()) == ["epoch_0001.pt", "epoch_0002.pt"]
    for name in ("state.pt", "states/epoch_0002.pt"):
        path = folder / name
        content = path.read_bytes()[:1000]
        path.unlink()  # they are one file
        path.write_bytes(content)
    state, notes = RunFolder(folder).load_state()
    assert state["epoch"] == 1
    assert len(notes) == 2
    train(folder, resume=True)
    assert_same_run(whole, folder)
