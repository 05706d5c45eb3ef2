import pytest
import torch

import recnext
from cli.command import fails, run
from process_group import run_processes
from recnext.study.demo.digits import write_folders
from recnext.tasks.classification.parts import Parts

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    write_folders(root, per_class=1)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return recnext.save(recnext.load("test_recnext_m", num_classes=10), tmp_path_factory.mktemp("w") / "a.safetensors")


OPTIONS = ["--image-size=32", "--workers=1", "--device=cpu"]


def test_embed_and_predict_write_tables(images, weights, tmp_path, capsys):
    status, out, err = run(
        capsys, "embed", images, f"--checkpoint={weights}", f"--output={tmp_path / 'a.parquet'}", *OPTIONS
    )
    assert (status, out) == (0, "")
    assert "20 rows in" in err
    assert parquet.read_schema(tmp_path / "a.parquet").names == ["image", "features", "error"]
    output = tmp_path / "b.parquet"
    assert run(capsys, "predict", images, f"--checkpoint={weights}", f"--output={output}", *OPTIONS)[0] == 0
    table = parquet.read_table(output).to_pydict()
    assert list(table) == ["image", "index", "class", "probability", "error"]
    assert len(table["image"]) == 20
    assert "already exists" in fails(
        capsys, "embed", images, f"--checkpoint={weights}", f"--output={tmp_path / 'a.parquet'}", *OPTIONS
    )
    assert "no weights are given" in fails(capsys, "embed", images, f"--output={tmp_path / 'c.parquet'}")


def test_unreadable_images_are_rows_and_the_status_is_one(images, weights, tmp_path, capsys):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    arguments = ["embed", images / "val", damaged, f"--checkpoint={weights}", "--stages", *OPTIONS]
    status, _, err = run(capsys, *arguments, f"--output={tmp_path / 'a.parquet'}")
    assert status == 1
    assert f"cannot read {damaged}: not an image" in err
    table = parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert len(table["stage_3"]) == 11
    assert [error is None for error in table["error"]] == [True] * 10 + [False]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["embed", "predict"])
def test_weights_that_changed_do_not_go_on(command, images, tmp_path, capsys, monkeypatch):
    """The same file name with other weights in it, as a run that was trained on leaves it."""
    file = tmp_path / "a.safetensors"
    recnext.save(recnext.load("test_recnext_m", num_classes=10), file)
    arguments = [command, images, f"--checkpoint={file}", f"--output={tmp_path / 'a.parquet'}", *OPTIONS]
    with monkeypatch.context() as stopped:
        stopped.setattr(Parts, "join", killed)
        with pytest.raises(RuntimeError):
            run(capsys, *arguments)
    capsys.readouterr()
    torch.manual_seed(1)
    recnext.save(recnext.load("test_recnext_m", num_classes=10), file)
    assert "was started with other contents of the weights" in fails(capsys, *arguments)


def killed(parts: Parts) -> int:
    raise RuntimeError


def test_two_processes_write_one_table(images, weights, tmp_path):
    output = tmp_path / "a.parquet"
    first, second = run_processes(["embed", str(images), f"--checkpoint={weights}", f"--output={output}", *OPTIONS])
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "20 rows in" in first.stderr
    assert "rows in" not in second.stderr
    assert parquet.read_table(output).num_rows == 20
