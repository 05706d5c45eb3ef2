"""The command as a user starts it, and as a supervisor stops it."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
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


HANGING = """
import sys, time
from recnext.checkpoints import load
from recnext.deploy.serve import classifier, limits, logs, server, service

if __name__ == "__main__":
    logs.configure_logs("info")
    served = classifier.ServedClassifier(load(checkpoint=sys.argv[1]), name="x", backend="torch", precision="f32")
    served.logits = lambda images: time.sleep(600)
    serving = service.Service(served, limits=limits.Limits(shutdown_seconds=2))
    sock = server.listen("127.0.0.1", 0)
    server.serve(serving, sock, on_start=lambda: print(server.url_of(sock), flush=True))
"""


@pytest.mark.slow
def test_the_end_comes_in_time_though_the_network_hangs(run, digit):
    command = [sys.executable, "-c", HANGING, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline().rpartition(":")[2])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("POST", CLASSIFY, digit.read_bytes(), {"content-type": "image/png"})
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            answer = connection.getresponse()  # when the time for requests in progress is over
            assert (answer.status, json.loads(answer.read())) == (503, {"error": "the server is stopping"})
            assert answer.getheader("connection") == "close"
            process.wait(30)
            assert time.monotonic() - started < 5
        errors = process.stderr.read()
    assert process.returncode == 1
    assert json.loads(errors.splitlines()[-1])["event"] == "ended by force: something was still running"
