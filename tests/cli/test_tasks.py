"""What `eval` and `predict` promise whatever the task."""

import csv
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cli.command import fails, run, run_json
from process_group import run_processes
from recnext.checkpoints import load, save
from recnext.checkpoints.metadata import CheckpointMetadata, read_metadata, save_checkpoint
from recnext.study.demo.digits import CLASS_NAMES as DIGITS
from recnext.study.demo.digits import write_folders
from recnext.study.demo.shapes import CLASS_NAMES as SHAPES
from recnext.tasks import job_of
from recnext.tasks.detection.checkpoint import describe
from recnext.tasks.segmentation import build
from tasks.detection import runs as detection
from tasks.detection.detectors import tiny
from tasks.segmentation import runs as segmentation

COMMON = {"--checkpoint", "--model", "--ema", "--fused", "--image-size", "--device", "--json", "--output"}


@dataclass(frozen=True)
class Case:
    """A task with data and a run folder that holds weights and other averaged ones."""

    task: str
    command: tuple[str, ...]
    data: Path
    images: Path
    run: Path
    classes: tuple[str, ...]

    def arguments(self, verb: str, *more: object, images: tuple[Path, ...] = ()) -> tuple[object, ...]:
        places = (self.data,) if verb == "eval" else (self.images, *images)
        workers = ("--workers=0",) if verb == "eval" else ()
        return (*self.command, verb, *places, "--checkpoint", self.run, "--device=cpu", *workers, *more)


def classification_case(root: Path) -> Case:
    write_folders(root / "data", per_class=2)
    for seed, name in enumerate(("best", "best_ema")):
        torch.manual_seed(seed)
        save(load("test_recnext_m", num_classes=10), root / f"{name}.safetensors", class_names=DIGITS)
    return Case("classification", (), root / "data", root / "data" / "val", root, DIGITS)


def detection_case(root: Path) -> Case:
    data = detection.write_data(root / "data")
    for label, name in enumerate(("best", "best_ema"), start=1):
        model = tiny(num_classes=5, class_names=SHAPES, category_ids=(2, 5, 8, 11, 14), anchor_scale=4.0)
        with torch.no_grad():
            model.roi_heads.box_predictor.cls_score.bias[label] = 3.0  # sure of what it cannot know
        save_checkpoint(root / f"{name}.safetensors", model.state_dict(), describe(model))
    return Case("detection", ("detect",), data, data / "val", root, SHAPES)


def segmentation_case(root: Path) -> Case:
    data = segmentation.write_data(root / "data", train=4, val=3)
    for seed, name in enumerate(("best", "best_ema")):
        torch.manual_seed(seed)
        model = build("test_recnext_m", num_classes=6, neck_channels=8, head_channels=8)
        save_checkpoint(root / f"{name}.safetensors", model.state_dict(), SEGMENTER)
    return Case("segmentation", ("segment",), data, data / "images" / "validation", root, SEGMENTER.class_names)


SEGMENTER = CheckpointMetadata(
    model="test_recnext_m",
    num_classes=6,
    class_names=("background", *SHAPES),
    input_size=(3, 40, 40),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop_pct=1.0,
    interpolation="bilinear",
)
CASES = {"classification": classification_case, "detection": detection_case, "segmentation": segmentation_case}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    return CASES[request.param](tmp_path_factory.mktemp(request.param))


def test_flags_are_the_same(case, capsys):
    for verb in ("eval", "predict"):
        status, out, _ = run(capsys, *case.command, verb, "--help")
        assert status == 0
        missing = {flag for flag in COMMON if f"{flag} " not in out and f"{flag}," not in out}
        assert not missing


def test_eval_shows_and_writes_the_metrics_of_the_job(case, tmp_path, capsys):
    metrics = job_of(case.task).metrics
    facts = run_json(capsys, *case.arguments("eval", "--output", tmp_path / "out"))
    assert {metric.key for metric in metrics} <= facts.keys()
    assert (facts["checkpoint"], facts["classes"]) == (str(case.run), len(case.classes))
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == facts
    with (tmp_path / "out" / "per_class.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == list(case.classes)
    status, out, err = run(capsys, *case.arguments("eval", "--output", tmp_path / "out"))
    assert status == 0, err
    assert all(metric.title in out for metric in metrics)
    assert str(tmp_path / "out") in out.replace("\n", "")


def test_predict_gives_a_line_or_an_object_an_image(case, tmp_path, capsys):
    output = tmp_path / ("out.csv" if case.task == "classification" else "out")
    (tmp_path / "torn.png").write_bytes(b"no image")
    arguments = case.arguments("predict", "--output", output, images=(tmp_path / "torn.png",))
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 1
    *found, torn = json.loads(out)
    assert torn == {"image": str(tmp_path / "torn.png"), "reason": "not an image, or a damaged one"}
    assert f"recnext: cannot read {tmp_path / 'torn.png'}: not an image" in err
    assert output.exists()
    status, out, err = run(capsys, *arguments)
    assert status == 1
    lines = out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [entry["image"] for entry in found]


def test_ema_takes_the_average(case, tmp_path, capsys):
    output = tmp_path / ("out.csv" if case.task == "classification" else "out")
    plain = run_json(capsys, *case.arguments("predict", "--output", output))
    averaged = run_json(capsys, *case.arguments("predict", "--output", output, "--ema"))
    assert [entry["image"] for entry in plain] == [entry["image"] for entry in averaged]
    assert plain != averaged
    assert run_json(capsys, *case.arguments("eval", "--ema")) != run_json(capsys, *case.arguments("eval"))
    alone = tmp_path / "run"
    alone.mkdir()
    shutil.copy(case.run / "best.safetensors", alone)
    for verb in ("eval", "predict"):
        message = fails(capsys, *case.arguments(verb, "--checkpoint", alone, "--ema"))
        assert "holds no moving average" in message


def test_mistakes_are_one_line(case, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "is a file: --output expects a folder" in fails(
        capsys, *case.arguments("eval", "--output", tmp_path / "file")
    )
    for verb in ("eval", "predict"):
        place = case.data if verb == "eval" else case.images
        assert "no weights are given" in fails(capsys, *case.command, verb, place)
        assert "no checkpoint" in fails(capsys, *case.arguments(verb, "--checkpoint", tmp_path / "none.pth"))
        assert "no device is called 'tpu'" in fails(capsys, *case.arguments(verb, "--device", "tpu"))
        assert "32" in fails(capsys, *case.arguments(verb, "--image-size", 8))
    assert "there is no file or folder" in fails(capsys, *case.command, "predict", tmp_path / "no", "--checkpoint", "x")


def test_names_of_any_bytes(case, tmp_path, capsys):
    """A name from a disk in Latin-1 has no UTF-8."""
    source = next(path for path in sorted(case.images.rglob("*")) if path.suffix in (".png", ".jpg"))
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [os.fsdecode(b"caf\xe9" + source.suffix.encode()), f"b{source.suffix}"]
    for name in names:
        shutil.copy(source, folder / name)
    output = tmp_path / ("out.csv" if case.task == "classification" else "out")
    arguments = (*case.command, "predict", folder, "--checkpoint", case.run, "--device=cpu", "--output", output)
    found = run_json(capsys, *arguments)
    assert sorted(Path(entry["image"]).name for entry in found) == sorted(names)
    if output.is_dir():
        assert {name.partition(".")[0] for name in names} <= {path.stem for path in output.iterdir()}
    else:
        assert output.read_text(encoding="utf-8").count("caf\\udce9") == 5


@pytest.mark.slow
def test_two_processes_count_what_one_does(case, tmp_path, capsys):
    """To the last bit."""
    arguments = case.arguments("eval", *(("--batch-size=3",) if case.task == "classification" else ()))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes below: kernels add up in another order with more
    try:
        alone = run_json(capsys, *arguments, "--output", tmp_path / "1")
    finally:
        torch.set_num_threads(threads)
    first, second = run_processes([*map(str, arguments), "--json", "--output", str(tmp_path / "2")])
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert second.stdout == ""  # one process prints
    shared = json.loads(first.stdout)
    for facts in (alone, shared):
        facts.pop("images_per_second", None)
        facts.pop("processes", None)
    assert shared == alone
    tables = [(tmp_path / count / "per_class.csv").read_bytes() for count in "12"]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_damaged_weights_give_no_answers(task, tmp_path, capsys):
    case = CASES[task](tmp_path)
    path = case.run / "best.safetensors"
    metadata, state = read_metadata(path), load_file(path)
    for weights in state.values():
        if weights.is_floating_point():
            weights.fill_(float("nan"))
    save_checkpoint(path, state, metadata)
    for verb in ("eval", "predict"):
        assert "holds NaN or infinite numbers in" in fails(capsys, *case.arguments(verb))
