"""Tables of features: right, in order, and whole whatever happens."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import torch
from PIL import Image

import recnext
from recnext.data import ImagePreparation, normalise
from recnext.data.images import open_image
from recnext.engine.processes import Processes
from recnext.errors import RecNextError
from recnext.tasks.classification.chunks import FileChunks, ShardChunks, open_chunks
from recnext.tasks.classification.embedding import ChunkReader, Pooled, TopClasses, write_chunks
from recnext.tasks.classification.parts import Parts
from recnext.tasks.classification.predict import class_names_of

parquet = pytest.importorskip("pyarrow.parquet")
CPU = torch.device("cpu")
SIZE = (32, 32)


def draw(number):
    pixels = np.random.RandomState(number).randint(0, 255, (32, 32, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for number in range(23):
        (root / str(number % 3)).mkdir(exist_ok=True)
        draw(number).save(root / str(number % 3) / f"{number:03d}.png")
    (root / "1" / "damaged.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return recnext.load("test_recnext_m", num_classes=0)


def written(model, source, output, *, columns=None, world_size=1, facts=None):
    """All processes, one after the other."""
    parts = Parts(output)
    columns = columns or Pooled()
    for rank in range(world_size):
        if rank == 0:
            parts.open(facts or source.facts())
        processes = Processes(rank, world_size, CPU)
        read = ChunkReader(model, columns, device=CPU, image_size=SIZE, batch_size=3)
        write_chunks(read, source, parts, processes=processes, rows=5)
    parts.join()
    return parquet.read_table(output).to_pydict()


@torch.inference_mode()
def by_hand(model, path):
    preparation = ImagePreparation(size=SIZE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    pixels = preparation.evaluation_transform()(open_image(str(path)))[None]
    return model(normalise(pixels, mean=preparation.mean, std=preparation.std, device=CPU))


@pytest.mark.parametrize("world_size", [1, 3])
def test_rows_are_the_images_in_order_with_their_features(folder, model, tmp_path, world_size):
    table = written(model, FileChunks([str(folder)]), tmp_path / "a.parquet", world_size=world_size)
    assert table["image"] == sorted(table["image"])
    assert len(set(table["image"])) == 24
    damaged = table["image"].index(str(folder / "1" / "damaged.png"))
    assert table["features"][damaged] is None
    assert table["error"][damaged] == "not an image, or a damaged one"
    assert [error for error in table["error"] if error] == [table["error"][damaged]]
    for row in (0, 23):
        expected = by_hand(model, table["image"][row])[0]
        torch.testing.assert_close(torch.tensor(table["features"][row]), expected, rtol=1e-4, atol=1e-5)
    assert not (tmp_path / "a.parquet.parts").exists()


def test_stages_give_a_vector_each(folder, tmp_path):
    torch.manual_seed(0)
    backbone = recnext.load("test_recnext_m", features_only=True)
    table = written(backbone, FileChunks([str(folder / "0")]), tmp_path / "a.parquet", columns=Pooled(stages=True))
    maps = by_hand(backbone, table["image"][2])
    for number, stage in enumerate(maps):
        expected = stage.mean((2, 3))[0]
        torch.testing.assert_close(torch.tensor(table[f"stage_{number}"][2]), expected, rtol=1e-4, atol=1e-5)
    assert len(maps) == 4


def test_classes(folder, tmp_path):
    torch.manual_seed(0)
    classifier = recnext.load("test_recnext_m", num_classes=7)
    columns = TopClasses(class_names_of(classifier), 2)
    table = written(classifier, FileChunks([str(folder)]), tmp_path / "a.parquet", columns=columns)
    probabilities, indices = by_hand(classifier, table["image"][0]).softmax(1).topk(2)
    assert table["index"][0] == indices[0].tolist()
    assert table["class"][0] == [str(index) for index in indices[0].tolist()]
    assert table["probability"][0] == pytest.approx(probabilities[0].tolist(), rel=1e-4)


def test_tar_shards_need_no_labels(folder, model, tmp_path):
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
            for number in range(7):
                content = io.BytesIO()
                draw(shard * 7 + number).save(content, "png")
                data = content.getvalue() if (shard, number) != (0, 3) else b"damaged"
                entry = tarfile.TarInfo(f"cat/{number}.png")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        source = open_chunks([str(tmp_path / "*.tar")])
    assert isinstance(source, ShardChunks)
    table = written(model, source, tmp_path / "a.parquet", world_size=2)
    assert [name.rpartition(".tar:")[2] for name in table["image"]] == [f"cat/{n}" for n in range(7)] * 2
    assert [row for row, error in enumerate(table["error"]) if error] == [3]
    draw(0).save(tmp_path / "zero.png")
    expected = by_hand(model, tmp_path / "zero.png")[0]
    torch.testing.assert_close(torch.tensor(table["features"][0]), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(RecNextError, match="is a tar file, 1 inputs are not"):
        open_chunks([str(tmp_path / "0.tar"), str(folder)])
    with pytest.raises(RecNextError, match="there is no tar file"):
        open_chunks([str(tmp_path / "none.tar")])


def test_another_run_is_not_continued_and_nothing_is_overwritten(folder, model, tmp_path):
    source = FileChunks([str(folder / "0")])
    parts = Parts(tmp_path / "a.parquet")
    assert parts.open({"weights": "a", **source.facts()}) is False
    assert parts.open({"weights": "a", **source.facts()}) is True
    with pytest.raises(RecNextError, match="was started with other weights:"):
        parts.open({"weights": "b", **source.facts()})
    with pytest.raises(RecNextError, match="was started with other images, listing:"):
        parts.open({"weights": "a", **FileChunks([str(folder / "1")]).facts()})
    written(model, source, tmp_path / "b.parquet")
    with pytest.raises(RecNextError, match="already exists: give another output"):
        Parts(tmp_path / "b.parquet").open({})
    with pytest.raises(RecNextError, match=r"ends in \.parquet"):
        Parts(tmp_path / "b.csv")


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_without_a_row_lost_or_doubled(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(1100):
        draw(number).save(images / f"{number:05d}.png")
    torch.manual_seed(0)
    weights = recnext.save(recnext.load("test_recnext_a", num_classes=3), tmp_path / "a.safetensors")
    output = tmp_path / "features.parquet"
    command = [sys.executable, "-m", "recnext", "embed", str(images), f"--checkpoint={weights}", "--device=cpu"]
    command += ["--image-size=32", "--batch-size=16", "--workers=1", f"--output={output}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    parts = tmp_path / "features.parquet.parts"
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    until = time.monotonic() + 120
    while not list(parts.glob("0*.parquet")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.parquet")}
    assert 0 < len(kept) < 3
    assert not output.exists()

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"resuming {output}: {512 * len(kept)} images are done" in done.stderr
    table = parquet.read_table(output)
    assert table["image"].to_pylist() == [str(images / f"{number:05d}.png") for number in range(1100)]
    assert parquet.ParquetFile(output).num_row_groups == 3
    assert not parts.exists()
    model = recnext.load(checkpoint=weights, num_classes=0, fused=True)
    for row in (0, 700, 1099):
        features = torch.tensor(table["features"][row].as_py())
        expected = by_hand(model, images / f"{row:05d}.png")[0]
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_leftovers_without_a_manifest_are_not_taken_for_done(model, folder, tmp_path):
    """A run killed while it cleared up, whose table was then moved away."""
    output = tmp_path / "a.parquet"
    parts = Parts(output)
    parts.folder.mkdir()
    (parts.folder / "00000000.parquet").write_bytes(b"of other weights")
    assert not parts.open({"weights": "b"})
    assert not parts.done("00000000")
    written(model, FileChunks([str(folder)]), output, facts={"weights": "b"})
    assert parquet.read_metadata(output).num_rows == 24


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path):
    parts = Parts(tmp_path / "a.parquet")
    parts.folder.mkdir()
    for name in ("00000000.parquet", "mine.parquet"):
        (parts.folder / name).write_bytes(b"mine")
    with pytest.raises(RecNextError, match=r"mine\.parquet is of another program"):
        parts.open({})
    assert len([*parts.folder.iterdir()]) == 2
    (parts.folder / "manifest.json").write_text("[1]")
    with pytest.raises(RecNextError, match=r"manifest\.json is damaged"):
        parts.open({})


def test_a_second_run_does_not_write_the_same_table(tmp_path):
    """What a first run has written stays its own."""
    pytest.importorskip("pyarrow")
    first, second = Parts(tmp_path / "a.parquet"), Parts(tmp_path / "a.parquet")
    with first.held():
        first.open({"rows": 1})
        with pytest.raises(RecNextError, match="another process is writing"), second.held():
            pass
    with second.held():
        assert second.open({"rows": 1})
