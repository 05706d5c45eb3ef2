import pytest

from cli.command import fails, run
from digits_run import train_digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return train_digits(tmp_path_factory.getbasetemp())


def test_page_is_written_where_it_is_wanted(digits, tmp_path, capsys):
    target = tmp_path / "page.html"
    small = ("--workers", 0, "--erf-images", 0, "--mistakes", 0)
    status, out, _ = run(capsys, "report", digits, "--output", target, *small)
    assert status == 0
    assert "page.html" in out
    page = target.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    assert 'id="field"' not in page
    status, _, _ = run(capsys, "report", digits, "--data", digits / "data" / "val", *small)
    assert status == 0
    assert (digits / "report.html").is_file()


def test_user_errors(digits, tmp_path, capsys):
    assert "holds no config.yaml" in fails(capsys, "report", tmp_path)
    assert "there is no folder" in fails(capsys, "report", digits, "--output", tmp_path / "no" / "x.html")
    assert "no does not exist" in fails(capsys, "report", digits, "--data", "no", "--output", tmp_path / "x.html")
    assert "--batch-size is 0" in fails(capsys, "report", digits, "--batch-size", 0)
    assert "no device is called 'tpu'" in fails(capsys, "report", digits, "--device", "tpu")
    assert not (tmp_path / "x.html").exists()
