import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.serve.pictures import SVG, bomb, encoded
from deploy.serve.running import form
from recnext.tasks.classification.predict import classify


def test_answers_are_those_of_predict(server, classifier, run):
    """Digits of every class, as files and as forms."""
    paths = [sorted((run / "data" / "val" / str(label)).iterdir())[0] for label in range(10)]
    expected = list(classify(classifier.network, map(str, paths), topk=3))
    right = 0
    for label, (path, prediction) in enumerate(zip(paths, expected, strict=True)):
        body, kind = form(path.read_bytes())
        for answer in (server.classify(path.read_bytes(), "?topk=3"), server.classify(body, "?topk=3", kind=kind)):
            assert answer.status == 200
            classes = answer.json["classes"]
            assert [score["index"] for score in classes] == [score.index for score in prediction.classes]
            for score, other in zip(classes, prediction.classes, strict=True):
                assert score["name"] == other.name
                assert score["probability"] == pytest.approx(other.probability, abs=1e-4)
        right += classes[0]["name"] == str(label)
    assert right >= 7
    assert answer.json["image"] == {"width": 32, "height": 32, "format": "PNG"}
    assert set(answer.json["milliseconds"]) == {"receive", "decode", "queue", "compute"}


def test_many_at_once_share_batches_and_get_their_own_answers(server, run):
    paths = [path for label in "0123456789" for path in sorted((run / "data" / "val" / label).iterdir())[:4]]
    alone = [server.classify(path.read_bytes()).json["classes"] for path in paths]
    with ThreadPoolExecutor(16) as pool:
        answers = [answer.json for answer in pool.map(lambda path: server.classify(path.read_bytes()), paths)]
    for answer, expected in zip(answers, alone, strict=True):
        assert [score["index"] for score in answer["classes"]] == [score["index"] for score in expected]
        assert answer["classes"][0]["probability"] == pytest.approx(expected[0]["probability"], abs=1e-4)
    sizes = {answer["batch"] for answer in answers}
    assert max(sizes) > 1
    assert sizes <= {1, 2, 4, 8}


def test_refusals_are_one_line_and_the_server_lives_on(server, digit):
    photo = digit.read_bytes()
    no_file, kind = form(b"x", file=False)
    elsewhere, _ = form(photo, field="image")
    cases = [
        (server.classify(b""), 422, "the upload is empty"),
        (server.classify(photo[:200]), 422, "the image is damaged"),
        (server.classify(encoded("JPEG")[:500], kind="image/jpeg"), 422, "the image is damaged"),
        (server.classify(SVG, kind="image/svg+xml"), 415, "content type 'image/svg+xml'"),
        (server.classify(SVG), 415, "no image of an accepted format"),
        (server.classify(b"hello", kind="text/plain"), 415, "content type 'text/plain'"),
        (server.ask("POST", "/v1/classify"), 415, "content type 'missing'"),
        (server.classify(bomb(20_000, 20_000)), 413, "more than 50 megapixels"),
        (server.classify(bomb(8_000, 8_000)), 413, "8000x8000 is more than 50 megapixels"),
        (server.classify(no_file, kind=kind), 422, "no file in the field 'file'"),
        (server.classify(elsewhere, kind=kind), 422, "no file in the field 'file'"),
        (server.classify(b"rubbish", kind=kind), 422, "form"),
        (server.classify(photo, kind="multipart/form-data"), 422, "the form cannot be read"),
        (server.classify(photo, "?topk=0"), 422, "topk: Input should be greater"),
        (server.classify(photo, "?topk=many"), 422, "topk: "),
        (server.ask("GET", "/v1/classify"), 405, "Method Not Allowed"),
        (server.ask("GET", "/../../etc/passwd"), 404, "Not Found"),
    ]
    for answer, status, reason in cases:
        assert answer.status == status, reason
        assert reason in answer.error
    assert server.classify(photo).status == 200


@pytest.mark.parametrize("declared", [True, False])
def test_a_hundred_megabytes_are_refused_and_not_kept(server, digit, declared):
    block = b"\0" * 2**20

    def body():
        for _ in range(100):
            yield block

    length = {"content_length": str(100 * 2**20)} if declared else {}
    answer = server.classify(body(), **length)
    assert (answer.status, answer.error) == (413, "the body is larger than 16 MiB")
    assert server.classify(digit.read_bytes()).status == 200


def test_a_client_that_asks_first_is_told_before_it_sends(server):
    with server.open() as sock:
        sock.sendall(
            b"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n"
            b"content-length: 100000000\r\nexpect: 100-continue\r\n\r\n"
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_form_of_the_largest_size_is_accepted(start, digit):
    photo = digit.read_bytes()
    small = start(body_mib=len(photo) / 2**20)
    body, kind = form(photo)
    assert small.classify(photo).status == 200
    assert small.classify(body, kind=kind).status == 200
    assert small.classify(photo + b"\0").status == 413


def test_too_many_requests_at_once(start, digit):
    """Two uploads begin and wait; a third is refused, health is not; then they are answered."""
    server = start(requests=2)
    photo = digit.read_bytes()
    head = (
        f"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: {len(photo)}\r\n"
    )
    with server.open() as one, server.open() as two:
        for sock in (one, two):
            sock.sendall(head.encode() + b"\r\n" + photo[:10])
        while server.metric("recnext_requests_in_progress") < 3:  # and the one that asks
            pass
        answer = server.classify(photo)
        assert (answer.status, answer.error) == (503, "2 requests are in progress already")
        assert answer.headers["retry-after"] == "1"
        assert server.alive()
        for sock in (one, two):
            sock.sendall(photo[10:])
            assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert server.classify(photo).status == 200


def test_a_full_queue_and_a_late_answer(start, digit, monkeypatch):
    photo = digit.read_bytes()
    server = start(queue=1, answer_seconds=1)
    free = threading.Event()
    logits = server.service.batcher.run

    def slow(images):
        assert free.wait(20)
        return logits(images)

    monkeypatch.setattr(server.service.batcher, "run", slow)
    with ThreadPoolExecutor(3) as pool:
        try:
            asked = [pool.submit(server.classify, photo) for _ in range(3)]
            answers = [answer.result() for answer in asked]
        finally:
            free.set()
    assert {answer.status for answer in answers} == {503}
    assert {answer.error for answer in answers} == {"1 images are waiting already", "no answer within 1 s"}
    assert server.classify(photo).status == 200


def test_a_failure_is_told_by_its_id_and_logged(start, digit, monkeypatch, caplog):
    server = start()
    monkeypatch.setattr(server.service.classifier, "top", lambda logits, topk: 1 / 0)
    answer = server.classify(digit.read_bytes())
    assert answer.status == 500
    assert "ZeroDivisionError" not in answer.body.decode()
    assert answer.json["id"] == answer.headers["x-request-id"]
    assert server.alive()  # the log is written after the answer
    failure = next(record for record in caplog.records if record.getMessage() == "request failed")
    assert failure.facts["id"] == answer.json["id"]
    assert failure.exc_info[0] is ZeroDivisionError


def test_only_known_host_names(start):
    server = start(hosts=("photos.example",))
    for name in ("localhost", "127.0.0.1:1", "[::1]:80", "PHOTOS.example"):
        assert server.ask("GET", "/", host=name).status == 200
    answer = server.ask("GET", "/", host="evil.example")
    assert (answer.status, answer.body) == (400, b"Invalid host header")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_metrics_count(start, digit):
    server = start()
    photo = digit.read_bytes()
    for _ in range(3):
        server.classify(photo)
    server.classify(b"hello")
    server.ask("GET", "/secret")
    assert server.metric('recnext_requests_total{method="POST",path="/v1/classify",status="200"}') == 3
    assert server.metric('recnext_requests_total{method="POST",path="/v1/classify",status="415"}') == 1
    assert server.metric('recnext_requests_total{method="GET",path="other",status="404"}') == 1
    assert server.metric('recnext_refused_total{reason="format"}') == 1
    assert server.metric("recnext_batch_images_sum") == 3
    assert server.metric('recnext_stage_seconds_count{stage="compute"}') == 3
    assert server.metric("recnext_queue_images") == 0


def test_state(server, classifier):
    assert server.ask("GET", "/health").json == {"status": "alive"}
    assert server.ask("GET", "/ready").json == {"status": "ready"}
    model = server.ask("GET", "/v1/model").json
    assert model["classes"] == [str(digit) for digit in range(10)]
    assert model["image_size"] == [32, 32]
    assert model["backend"] == "torch fp32"
    assert model["explains"] is classifier.explains


def test_every_path_is_described(server):
    api = server.ask("GET", "/openapi.json").json
    assert set(api["paths"]) == {"/v1/classify", "/v1/explain", "/v1/model", "/health", "/ready", "/metrics"}
    classify = api["paths"]["/v1/classify"]["post"]
    assert set(classify["responses"]) == {"200", "408", "413", "415", "422", "503"}
    assert {"image/jpeg", "multipart/form-data"} <= set(classify["requestBody"]["content"])
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(api)))
    assert references <= set(api["components"]["schemas"])


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere(server, path):
    page = server.ask("GET", path)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    targets = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert targets
    for target in targets:
        assert "//" not in target
        assert server.ask("GET", f"/{target.removeprefix('./')}").status == 200, target
