import pytest
import torch

import recnext
from checkpoints.files import TINY, image, network, published_fused_file, relative_difference, training_file
from cli.command import fails, run
from golden_fill import fill


@pytest.mark.parametrize("name", TINY)
def test_published_files(name, tmp_path, capsys):
    model, average = network(name), fill(network(name), salt="ema")
    sources = {
        "a": (training_file(tmp_path / "a.pth", model, average), [], model),
        "b": (tmp_path / "a.pth", ["--ema", "--fused", "--model", name], average),
        "c": (published_fused_file(tmp_path / "c.pt", model), [], model),
    }
    for key, (source, arguments, expected) in sources.items():
        output = tmp_path / f"{key}.safetensors"
        status, out, err = run(capsys, "convert", source, output, *arguments)
        assert (status, err) == (0, "")
        assert f"{name}, 7 classes" in out
        assert ("unfused" in out) == (key == "a")
        with torch.inference_mode():
            assert relative_difference(recnext.load(checkpoint=output)(image()), expected(image())) < 1e-4


def test_mistakes_are_one_line_and_leave_the_output_alone(tmp_path, capsys):
    output = tmp_path / "out.safetensors"
    output.write_bytes(b"old")
    page = tmp_path / "page.pth"
    page.write_text("<html>Not found</html>")
    assert "is a web page" in fails(capsys, "convert", page, output, "--overwrite")
    assert "holds test_recnext_m" in fails(
        capsys, "convert", training_file(tmp_path / "m.pth", network()), output, "--model", "recnext_m1", "--overwrite"
    )
    assert "holds no moving average" in fails(capsys, "convert", tmp_path / "m.pth", output, "--ema", "--overwrite")
    assert "did you mean" in fails(
        capsys, "convert", tmp_path / "m.pth", output, "--model", "recnext_mm1", "--overwrite"
    )
    assert "already exists: give another output, or --overwrite it" in fails(
        capsys, "convert", tmp_path / "m.pth", output
    )
    assert "is read by this command" in fails(capsys, "convert", output, output, "--overwrite")
    assert output.read_bytes() == b"old"
