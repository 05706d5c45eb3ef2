"""Each line of SECURITY.md, with a file that would do harm."""

import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

import recnext
from cli.command import fails
from recnext.data import open_dataset
from recnext.data.images import UnreadableImageError, read_image
from recnext.engine.resuming import read_settings
from recnext.engine.run_folder import RunFolder
from recnext.errors import RecNextError
from recnext.tasks.classification.settings import TrainSettings


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


class Restored(torch.nn.Module):
    """Writes a file when TorchScript loads it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return (self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.weight = state[0]
        self.training = state[1]
        torch.save(torch.ones(1), "attacked")

    def forward(self, x):
        return x


@pytest.fixture(autouse=True)
def _nothing_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path("attacked").exists()


def weights(path: str, **header: object) -> str:
    recnext.save(timm.create_model("test_recnext_m", num_classes=2), path)
    with safetensors.safe_open(path, "pt") as file:
        known = {**file.metadata(), **{f"recnext.{key}": json.dumps(value) for key, value in header.items()}}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    safetensors.torch.save_file(tensors, path, known)
    return path


@pytest.mark.parametrize("name", ["x.pth", "x.bin", "x.ckpt", "x.pt"])
def test_pickles_run_nothing(name):
    torch.save({"model": Attack()}, name)
    with pytest.raises(RecNextError, match=r"needs the Python object \w+\.mkdir"):
        recnext.load("test_recnext_m", checkpoint=name)


def test_a_state_to_resume_from_runs_nothing():
    Path("run").mkdir()
    torch.save({"step": Attack()}, "run/state.pt")
    with pytest.raises(RecNextError):
        RunFolder(Path("run")).load_state()


@pytest.mark.parametrize("name", ["x.pth", "hub/pytorch_model.bin", "run/best.safetensors"])
def test_torchscript_runs_nothing(name, capsys):
    Path(name).parent.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Restored()).save(name)
    Path("attacked").unlink(missing_ok=True)  # torch.jit.script may have run it
    Image.new("RGB", (8, 8)).save("a.png")
    line = fails(capsys, "predict", "a.png", "--checkpoint", name if name == "x.pth" else str(Path(name).parent))
    assert "is refused: a part of it is restored by a program in the file, which is not run" in line


def test_an_index_of_torchscript_names_tensors_only():
    with zipfile.ZipFile("x.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(Attack()))
        archive.writestr("x/constants.pkl", pickle.dumps(()))
    with pytest.raises(RecNextError, match=r"it needs the Python object \w+\.mkdir"):
        recnext.load("test_recnext_m", checkpoint="x.pt")


def test_a_pt2_needs_trust(capsys):
    torch.save(Attack(), "x.pt2")
    Image.new("RGB", (8, 8)).save("a.png")
    assert "--trust" in fails(capsys, "predict", "a.png", "--model", "x.pt2")
    assert "--trust" in fails(capsys, "bench", "x.pt2", "--device", "cpu")


def test_onnx_reads_nothing_outside_of_its_folder():
    onnx = pytest.importorskip("onnx")
    from recnext.deploy.export.onnx_file import read

    Path("in").mkdir()
    Path("secret").write_bytes(bytes(16))
    Path("in/link").symlink_to("../secret")
    for place in ("../secret", str(Path("secret").resolve()), "link"):
        tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=place)
        ports = [onnx.helper.make_tensor_value_info(name, 1, [4]) for name in "xy"]
        for inputs, node in (
            ([tensor], onnx.helper.make_node("Add", ["x", "w"], ["y"])),
            ([], onnx.helper.make_node("Constant", [], ["y"], value=tensor)),
        ):
            graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], inputs)
            Path("in/x.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
            with pytest.raises(RecNextError, match="outside of its folder: refused"):
                read(Path("in/x.onnx"))


def test_files_for_runtimes_have_built_in_operators_only(capsys):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    Image.new("RGB", (8, 8)).save("a.png")
    ports = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in "xy"]
    node = onnx.helper.make_node("Run", ["x"], ["y"], domain="stranger", library="./evil.so")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ports[:1], ports[1:]))
    model.opset_import.append(onnx.helper.make_opsetid("stranger", 1))
    Path("x.onnx").write_bytes(model.SerializeToString())
    dims = "".join(f"<dim>{size}</dim>" for size in (1, 3, 8, 8))
    Path("x.xml").write_text(
        '<?xml version="1.0"?><net name="g" version="11"><layers><layer id="0" name="x" type="Run" version="stranger">'
        f'<data library="evil.so"/><output><port id="0" precision="FP32">{dims}</port></output></layer></layers></net>'
    )
    Path("x.bin").write_bytes(b"")
    for name in ("x.pte", "x.tflite"):
        Path(name).write_bytes(b"MZ" + bytes(64))
    for name in ("x.onnx", "x.xml", "x.pte", "x.tflite"):
        assert name in fails(capsys, "predict", "a.png", "--model", name)


@pytest.mark.parametrize(
    "arguments",
    [{"pretrained": True}, {"pretrained_cfg": {"url": "http://127.0.0.1:9/"}}, {"checkpoint_path": "x"},
     {"cache_dir": "x"}, {"pretrained_cfg_overlay": {"file": "x"}}],
)  # fmt: skip
def test_a_header_has_arguments_of_the_constructor_only(arguments):
    with pytest.raises(RecNextError, match="has no argument"):
        recnext.load(checkpoint=weights("x.safetensors", model_args=arguments))


@pytest.mark.parametrize("name", ["hf-hub:a/b", "local-dir:x", "hf_hub:a/b"])
def test_a_header_names_a_network_only(name):
    path = weights("x.safetensors")
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors, path, {"recnext.model": name, "recnext.num_classes": "2"})
    with pytest.raises(RecNextError, match="no network is called"):
        recnext.load(checkpoint=path)


def test_settings_import_no_class(tmp_path):
    (tmp_path / "evil.py").write_text("import os\nos.mkdir('attacked')\nclass A: pass\n")
    (tmp_path / "r.yaml").write_text("model_args: {a: {class_path: evil.A}}\n")
    code = "import sys; from recnext.cli.main import dispatch; dispatch(['train', 'none', '--config', 'r.yaml'])"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
    sys.path.append(str(tmp_path))
    try:
        stored = {**TrainSettings().to_dict(), "model_args": {"a": {"class_path": "evil.A"}}}
        read_settings(TrainSettings, stored, source=Path("config.yaml"))
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize("kind", ["wds", "tar", "hfds", "hfids", "cifar10"])
@pytest.mark.parametrize("place", ["pipe:mkdir attacked;", "ssh://a/b", "s3://a/b", "file:///etc", "hdfs://a"])
def test_no_data_is_a_command_or_of_another_scheme(kind, place):
    with pytest.raises(RecNextError, match="begins its place with"):
        open_dataset(f"{kind}:{place}")


@pytest.mark.parametrize("file", ["../x.tar", "/etc/x.tar", "pipe:mkdir attacked", "http://127.0.0.1:9/x.tar"])
def test_shards_lie_in_their_folder(file):
    split = {"filenames": [file], "num_samples": 1}
    Path("_info.json").write_text(json.dumps({"splits": {"train": split, "val": split}, "class_names": ["a"]}))
    with pytest.raises(RecNextError, match="expected tar files in"):
        open_dataset("wds:.")


def test_data_sets_of_the_hub_have_no_loading_scripts():
    pytest.importorskip("datasets")
    Path("evil").mkdir()
    Path("evil/evil.py").write_text("import os\nos.mkdir('attacked')\n")
    with pytest.raises(RecNextError):
        open_dataset("hfds:evil")


@pytest.mark.parametrize("place", ["wds:https://a/b", "hfds:a/b", "hfids:a/b"])
def test_a_report_fetches_nothing_that_a_run_names(place):
    from recnext.data.sources import is_local

    assert not is_local(place)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "tga"])
@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n", b"%PDF-1.4\n"])
def test_no_image_is_a_program(content, suffix):
    Path(f"x.{suffix}").write_bytes(content)
    with pytest.raises(UnreadableImageError):
        read_image(f"x.{suffix}")


@pytest.mark.parametrize(
    "content", ["#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n", "ffconcat version 1.0\nfile x\n"]
)
def test_no_video_is_a_list_of_others(content):
    pytest.importorskip("av")
    from recnext.data.video import VideoReader

    Path("x.mp4").write_text(content)
    with pytest.raises(UnreadableImageError, match="is no video that can be read"):
        VideoReader(Path("x.mp4"))
