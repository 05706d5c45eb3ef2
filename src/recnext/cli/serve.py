"""`recnext serve`."""

import socket
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Optional

from recnext.checkpoints import load
from recnext.deploy.serve.limits import Limits
from recnext.engine.devices import choose_device
from recnext.errors import MissingExtraError, RecNextError
from recnext.sizes import parse_size
from recnext.text import printable

from .shared import require_at_least

if TYPE_CHECKING:
    from recnext.deploy.serve.classifier import ServedClassifier

_LARGEST_BATCH = 1024
_LONGEST_WAIT = 1000  # milliseconds
_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def run(
    checkpoint: Optional[str] = None,
    model: Optional[str] = None,
    pretrained: bool = False,
    ema: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    hosts: Optional[str] = None,
    image_size: Optional[str] = None,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
    threads: Optional[int] = None,
    max_batch: int = 8,
    batch_wait: float = 2.0,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    log_level: Literal["debug", "info", "warning", "error"] = "info",
) -> int:
    """Serves a classifier: a web page, and an HTTP API with dynamic batching and limits.

    POST an image to /v1/classify and JSON comes back; /docs describes the API. Only this machine reaches the server
    unless --host says otherwise; there is no authentication. Logs are JSON lines on standard error.

    Args:
        checkpoint: weight file, run folder or hub id.
        model: a timm name, such as recnext_m1; not needed where the checkpoint tells it.
        pretrained: the published ImageNet weights of --model.
        ema: take the moving average of the weights.
        host: address to listen on; 0.0.0.0 is every interface.
        port: to listen on; 0 takes a free one.
        hosts: names the server is reached by besides the loopback's, with commas between; others are refused.
        image_size: N or HxW in pixels; by default the one of the weights.
        device: auto, cpu, cuda, cuda:N or mps.
        backend: torch, compile, onnxruntime, openvino, or auto for the fastest by a short trial.
        precision: fp32, bf16, fp16, or auto: also bf16 where the hardware has it.
        threads: CPU threads of the network; by default torch's.
        max_batch: images computed together at most, a power of two.
        batch_wait: milliseconds that an idle network waits for further images.
        limits: on requests.
        log_level: of the least important lines.
    """
    if checkpoint is None and not pretrained:
        raise RecNextError(
            "no weights are given, and random ones tell nothing: add --checkpoint FILE, or --model NAME --pretrained"
        )
    _check(max_batch=max_batch, batch_wait=batch_wait, threads=threads)
    from recnext.deploy.serve.classifier import ServedClassifier
    from recnext.deploy.serve.decoders import process_context
    from recnext.deploy.serve.logs import configure_logs
    from recnext.deploy.serve.server import hosts_for, listen, serve
    from recnext.deploy.serve.service import Service

    size = parse_size(image_size) if image_size else None
    target = choose_device(device)
    with closing(listen(host, port)) as sock:
        names = hosts_for(sock, hosts.split(",") if hosts else ())
        process_context()  # it imports while the network is loaded
        network = load(model, checkpoint=checkpoint, pretrained=pretrained, fused=True, ema=ema, device=target)
        configure_logs(log_level)
        classifier = ServedClassifier(
            network,
            name=str(getattr(network, "pretrained_cfg", {}).get("architecture") or model),
            image_size=size,
            largest_batch=max_batch,
            backend=backend,
            precision=precision,
            threads=threads,
        )
        service = Service(classifier, limits=limits, largest_batch=max_batch, patience=batch_wait / 1e3)
        serve(service, sock, hosts=names, on_start=lambda: _announce(classifier, sock))


def _check(*, max_batch: int, batch_wait: float, threads: Optional[int]) -> None:
    require_at_least(1, max_batch=max_batch, threads=threads)
    if not 0 <= batch_wait <= _LONGEST_WAIT:
        raise RecNextError(f"--batch-wait is {batch_wait}: expected milliseconds from 0 to {_LONGEST_WAIT}")
    if max_batch & (max_batch - 1) or max_batch > _LARGEST_BATCH:
        raise RecNextError(f"--max-batch is {max_batch}: expected a power of two, at most {_LARGEST_BATCH}")
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve", "recnext serve")


def _announce(classifier: "ServedClassifier", sock: socket.socket) -> None:
    from recnext.deploy.serve.logs import log
    from recnext.deploy.serve.server import is_loopback, url_of

    url, loopback = url_of(sock), is_loopback(sock)
    log("listening", url=url, model=classifier.name, backend=classifier.backend, loopback=loopback)
    print(printable(f"{classifier.name} ({classifier.backend}) on {url}, Ctrl-C stops it"), flush=True)
    if not loopback:
        print("other machines can reach it, and it asks for no password", flush=True)
