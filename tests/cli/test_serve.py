import importlib.util
import socket

import pytest

from checkpoints.files import network
from cli.command import fails, run
from recnext.checkpoints import save


@pytest.fixture
def weights(tmp_path):
    return save(network(), tmp_path / "x.safetensors")


def test_user_errors(weights, tmp_path, capsys):
    given = ("--checkpoint", weights, "--port", 0)
    assert "random ones tell nothing" in fails(capsys, "serve", "--model", "recnext_m0")
    assert "no such file" in fails(capsys, "serve", "--checkpoint", tmp_path / "no.pth", "--port", 0)
    assert "--max-batch is 6: expected a power of two" in fails(capsys, "serve", *given, "--max-batch", 6)
    assert "--max-batch is 0" in fails(capsys, "serve", *given, "--max-batch", 0)
    assert "--batch-wait is -1.0" in fails(capsys, "serve", *given, "--batch-wait", -1)
    assert "limits.queue=0: expected a number above 0" in fails(capsys, "serve", *given, "--limits.queue", 0)
    assert "no device is called 'tpu'" in fails(capsys, "serve", *given, "--device", "tpu")
    assert "cannot listen on 192.0.2.1 port 0" in fails(capsys, "serve", *given, "--host", "192.0.2.1")
    for port in (-1, 65536):
        assert f"--port is {port}: " in fails(capsys, "serve", "--checkpoint", weights, "--port", port)


def test_port_in_use(weights, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = fails(capsys, "serve", "--checkpoint", weights, "--port", port)
    assert line.startswith(f"cannot listen on 127.0.0.1 port {port}: ")
    assert "--host and --port" in line


def test_missing_extra(weights, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("recnext.cli.serve.find_spec", lambda name: None if name == "fastapi" else find(name))
    assert "pip install 'recnext[serve]'" in fails(capsys, "serve", "--checkpoint", weights)


def test_help_names_the_limits(capsys):
    status, out, _ = run(capsys, "serve", "--help")
    assert status == 0
    assert "--limits.body-mib" in out
    assert "answered 413" in out
