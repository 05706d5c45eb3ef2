"""The command as a user starts it, and as a supervisor stops it."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from deploy.serve.running import CLASSIFY


@pytest.fixture
def process(run, tmp_path):
    started = subprocess.Popen(
        [sys.executable, "-m", "recnext", "serve", "--checkpoint", str(run), "--port", "0", "--backend", "torch"],
        env={**os.environ, "RECNEXT_CACHE": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.mark.slow
def test_a_request_in_progress_is_answered_before_the_end(process, digit):
    line = process.stdout.readline()
    port = int(re.search(r"on http://127\.0\.0\.1:(\d+),", line)[1])
    photo = digit.read_bytes()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.putrequest("POST", CLASSIFY)
        connection.putheader("content-type", "image/png")
        connection.putheader("content-length", str(len(photo)))
        connection.endheaders(photo[:50])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as other:
            other.request("GET", "/metrics")
            assert "recnext_requests_in_progress 2.0" in other.getresponse().read().decode()
        process.send_signal(signal.SIGTERM)
        while "Shutting down" not in process.stderr.readline():
            pass
        connection.send(photo[50:])
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["classes"][0]["name"] == "7"
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == ""
    lines = [json.loads(line) for line in errors.splitlines()]
    assert lines[-1]["event"] == "stopped"
    request = next(line for line in lines if line["event"] == "request")
    assert {"time", "level", "id", "client", "ms", "decode", "queue", "compute"} <= set(request)
    assert (request["method"], request["path"], request["status"], request["batch"]) == ("POST", CLASSIFY, 200, 1)
