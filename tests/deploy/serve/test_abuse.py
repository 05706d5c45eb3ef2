"""What clients, images and names do to a server that is meant for others."""

import http.client
import json
import logging
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import torch
import uvicorn

from deploy.serve.pictures import scans
from deploy.serve.running import CLASSIFY, form, running
from recnext.checkpoints import load
from recnext.deploy.serve.classifier import ServedClassifier
from recnext.deploy.serve.connections import Connections
from recnext.deploy.serve.limits import Limits
from recnext.deploy.serve.logs import LOG, JsonFormatter
from recnext.errors import RecNextError


def test_a_jpeg_of_a_thousand_scans(server, digit):
    answer = server.classify(scans(64, 1000), kind="image/jpeg")
    assert (answer.status, answer.error.partition(":")[0]) == (422, "the image is damaged")
    assert "more than 100 scans" in answer.error
    assert server.classify(digit.read_bytes()).status == 200


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop processes")
def test_decoding_that_hangs_is_ended_and_the_server_is_not_ready_meanwhile(start, digit):
    others = multiprocessing.active_children()
    server = start(decode_seconds=3)
    decoding = [process for process in multiprocessing.active_children() if process not in others]
    for process in decoding:
        os.kill(process.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(len(decoding)) as pool:
        asked = [pool.submit(server.classify, digit.read_bytes()) for _ in decoding]
        time.sleep(2.4)
        ready = server.ask("GET", "/ready")
        assert (ready.status, ready.headers["retry-after"]) == (503, "1")
        assert "every decoding process" in ready.error
        for answer in asked:
            assert answer.result().status == 422
            assert answer.result().error == "the image cannot be decoded: it took longer than 3 s"
    assert server.classify(digit.read_bytes()).status == 200
    assert server.alive()


def test_beginnings_of_a_forms_boundary_do_not_hold_the_others(server):
    """The parser steps through them one by one, for seconds."""
    body, kind = form(b"\r\n--xyz." * (2**20 // 8))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.classify, body, kind=kind)
        answered = 0
        while not asked.done():
            answered += server.ask("GET", "/health").status == 200
    assert asked.result().status == 415
    assert answered > 5


def test_invented_methods_and_paths_are_counted_as_one(start):
    server = start()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        for number in range(30):
            connection.request(f"M{number}", f"/{number}")
            connection.getresponse().read()
    assert server.metric('recnext_requests_total{method="other",path="other",status="404"}') == 30
    assert b"M7" not in server.ask("GET", "/metrics").body


def test_answers_during_the_shutdown_close_their_connections(start, digit):
    server = start()
    photo = digit.read_bytes()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        for last in (False, True):
            connection.putrequest("POST", CLASSIFY)
            connection.putheader("content-type", "image/png")
            connection.putheader("content-length", str(len(photo)))
            connection.endheaders(photo[:50])
            if last:
                while server.metric("recnext_requests_in_progress") < 2:
                    pass
                server.stop()
            connection.send(photo[50:])
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.read()
            assert answer.getheader("connection") == ("close" if last else None)


def test_connections_of_another_uvicorn_are_left_as_they_are(caplog):
    class OtherConfig(uvicorn.Config):
        def load(self) -> None:
            super().load()
            del self.http_protocol_class

    with caplog.at_level(logging.WARNING):
        Connections(Limits()).bound(OtherConfig(lambda: None, log_config=None))
    assert "slow and silent ones are not bounded" in caplog.text


def test_names_of_other_people(run, digit):
    """What would write on a terminal, or is no Unicode, or markup, reaches clients as it is and logs as escapes."""
    names = ["\x1b[2J", "\x9b1m", "<script>alert(1)</script>", 'a"b\nc', "caf\udce9", "[bold]x", *"6789"]
    network = load(checkpoint=run, fused=True)
    network.pretrained_cfg["label_names"] = names
    options = {"backend": "torch", "precision": "f32", "threads": 1}
    named = ServedClassifier(network, name='net "\n\x1b[2J\udce9', **options)
    with running(named) as server:
        names[4] = "caf\\udce9"
        assert server.ask("GET", "/v1/model").json["classes"] == names
        answer = server.classify(digit.read_bytes(), "?topk=10").json["classes"]
        assert {score["index"]: score["name"] for score in answer} == dict(enumerate(names))
        assert server.ask("GET", "/metrics").status == 200
    record = logging.LogRecord(LOG.name, logging.INFO, "", 0, "request", None, None)
    record.facts = {"path": "/\x1b[2J\x9b\udce9"}
    assert json.loads(JsonFormatter().format(record))["path"] == record.facts["path"]
    assert JsonFormatter().format(record).isascii()


def test_a_network_of_nan_is_not_served(run):
    network = load(checkpoint=run, fused=True)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(RecNextError, match="cannot run this model"):
        ServedClassifier(network, name="digits", backend="torch", precision="f32", threads=1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_answer_that_is_no_number_is_refused(start, classifier, digit, monkeypatch, bad):
    server = start()
    logits = server.service.batcher.run
    monkeypatch.setattr(server.service.batcher, "run", lambda images: [row * bad for row in logits(images)])
    answer = server.classify(digit.read_bytes())
    assert (answer.status, answer.error.partition(":")[0]) == (
        500,
        "the network's answer for this image is not a number",
    )
    assert server.metric('recnext_refused_total{reason="nan"}') == 1
