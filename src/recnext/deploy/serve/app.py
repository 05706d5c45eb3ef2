"""The page and the HTTP API of a classifier."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Optional, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from torch import Tensor

from recnext._version import __version__

from .batching import Batcher
from .body import FIELD, read_image_bytes
from .classifier import ServedClassifier
from .connections import error_line
from .decoding import decode
from .explanation import overlay
from .guard import UNCOUNTED, Guard
from .limits import FORMATS, MEDIA_TYPES, Limits, RefusedError
from .metrics import CONTENT_TYPE, Metrics
from .schemas import (
    ClassAnswer,
    ClassificationAnswer,
    ErrorAnswer,
    ImageAnswer,
    Milliseconds,
    ModelAnswer,
    StatusAnswer,
)

STATIC = Path(__file__).parent / "static"
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/docs": ("docs.html", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_EXPLANATIONS = 8  # waiting at most
_DECODERS = 4  # threads at most

Value = TypeVar("Value")

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    408: {"model": ErrorAnswer, "description": "the body came too slowly"},
    413: {"model": ErrorAnswer, "description": "too many bytes or pixels"},
    415: {"model": ErrorAnswer, "description": "no image of an accepted format"},
    422: {"model": ErrorAnswer, "description": "a damaged image, or a parameter out of range"},
    503: {"model": ErrorAnswer, "description": "too busy; Retry-After tells when to come again"},
}


class Service:
    """A classifier with its queue, threads and counters.

    Args:
        classifier: to serve.
        limits: on requests.
        largest_batch: images computed together, a power of two.
        patience: seconds that an idle network waits for company.
    """

    def __init__(
        self, classifier: ServedClassifier, *, limits: Limits, largest_batch: int = 8, patience: float = 0.002
    ) -> None:
        self.classifier = classifier
        self.limits = limits
        self.metrics = Metrics()
        self.metrics.describe(model=classifier.name, backend=classifier.backend, version=__version__)
        self.batcher: Batcher[Tensor, Tensor] = Batcher(
            classifier.logits,
            largest=largest_batch,
            patience=patience,
            queue=limits.queue,
            on_batch=self.metrics.batch,
        )
        self.metrics.watch_queue(self.batcher.__len__)
        self._decoders = ThreadPoolExecutor(min(os.cpu_count() or 1, _DECODERS), thread_name_prefix="decode")
        self._explaining = 0

    async def close(self) -> None:
        """Finishes what waits."""
        await self.batcher.close()
        self._decoders.shutdown()

    async def classify(self, request: Request, topk: int) -> ClassificationAnswer:
        """The likeliest classes of the image in a request."""
        started = time.perf_counter()
        data = await read_image_bytes(request, limits=self.limits)
        received = time.perf_counter()
        answer, image, decoded = await self._within(self._classified(data))
        times = {
            "receive": received - started,
            "decode": decoded - received,
            "queue": answer.queued,
            "compute": answer.computed,
        }
        for stage, seconds in times.items():
            self.metrics.parts.labels(stage).observe(seconds)
        milliseconds = Milliseconds(**{stage: round(1e3 * seconds, 3) for stage, seconds in times.items()})
        request.state.facts.update(bytes=len(data), batch=answer.batch, **milliseconds.model_dump())
        classes = [
            ClassAnswer(index=score.index, name=score.name, probability=score.probability)
            for score in self.classifier.top(answer.result, topk)
        ]
        return ClassificationAnswer(classes=classes, image=image, batch=answer.batch, milliseconds=milliseconds)

    async def explain(self, request: Request, label: Optional[int]) -> bytes:
        """A PNG of what the network saw, with Grad-CAM over it."""
        if not self.classifier.explains:
            raise RefusedError(
                HTTPStatus.NOT_IMPLEMENTED, "this server has no Grad-CAM: pip install 'recnext[explain]'", kind="extra"
            )
        if label is not None and label >= len(self.classifier.class_names):
            count = len(self.classifier.class_names)
            raise RefusedError(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"label {label}: there are {count} classes, from 0", kind="parameter"
            )
        if self._explaining >= _EXPLANATIONS:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many explanations are waiting", kind="queue", retry_after=1
            )
        self._explaining += 1
        try:
            data = await read_image_bytes(request, limits=self.limits)
            return await self._within(self._explained(data, label))
        finally:
            self._explaining -= 1

    async def _classified(self, data: bytes) -> tuple[Any, ImageAnswer, float]:
        pixels, image = await self._prepared(data)
        decoded = time.perf_counter()
        return await self.batcher.submit(pixels), image, decoded

    async def _explained(self, data: bytes, label: Optional[int]) -> bytes:
        pixels, _ = await self._prepared(data)
        heat = await self.batcher.in_thread(lambda: self.classifier.explain(pixels, label=label))
        return await self._decoding(lambda: overlay(pixels, heat))

    async def _prepared(self, data: bytes) -> tuple[Tensor, ImageAnswer]:
        classifier = self.classifier

        def prepare() -> tuple[Tensor, ImageAnswer]:
            upload = decode(
                data, limits=self.limits, shorter_side=classifier.shorter_side, grey=classifier.channels == 1
            )
            width, height = upload.image.size
            return classifier.prepare(upload.image), ImageAnswer(width=width, height=height, format=upload.format)

        return await self._decoding(prepare)

    async def _decoding(self, function: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function)

    async def _within(self, answer: Any) -> Any:
        seconds = self.limits.answer_seconds
        try:
            return await asyncio.wait_for(answer, seconds)
        except asyncio.TimeoutError:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"no answer within {seconds:g} s", kind="timeout", retry_after=5
            ) from None


def make_app(service: Service, *, hosts: Optional[Collection[str]] = None) -> Guard:
    """The ASGI application.

    Args:
        service: what it serves; started and closed with the application.
        hosts: names that requests may be addressed to; None is any.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        service.batcher.start()
        yield
        await service.close()

    app = FastAPI(
        title="recnext",
        version=__version__,
        description=f"Classifies images with {service.classifier.name}.",
        docs_url=None,  # FastAPI's page loads its scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_errors(app)
    _add_pages(app)
    _add_state(app, service)

    @app.post(
        "/v1/classify",
        summary="The likeliest classes of an image",
        responses=_REFUSALS,
        openapi_extra=_BODY,
    )
    async def classify(
        request: Request, topk: Annotated[int, Query(ge=1, le=1000, description="classes to answer")] = 5
    ) -> ClassificationAnswer:
        return await service.classify(request, topk)

    @app.post(
        "/v1/explain",
        summary="Where an image speaks for a class: the network's input with Grad-CAM over it",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, 501: {"model": ErrorAnswer}, **_REFUSALS},
        openapi_extra=_BODY,
    )
    async def explain(
        request: Request,
        label: Annotated[Optional[int], Query(ge=0, description="index of a class; by default the likeliest")] = None,
    ) -> Response:
        return Response(await service.explain(request, label), media_type="image/png")

    paths = {*_FILES, *UNCOUNTED, "/openapi.json", "/v1/model", "/v1/classify", "/v1/explain"}
    return Guard(app, limits=service.limits, metrics=service.metrics, paths=paths, hosts=hosts)


def _add_pages(app: FastAPI) -> None:
    def add(path: str, name: str, kind: str) -> None:
        @app.get(path, include_in_schema=False)
        async def page() -> FileResponse:
            return FileResponse(STATIC / name, media_type=kind, headers={"cache-control": "no-cache"})

    for path, (name, kind) in _FILES.items():
        add(path, name, kind)


def _add_state(app: FastAPI, service: Service) -> None:
    """What is served, health, readiness, metrics."""

    @app.get("/v1/model", summary="What is served")
    async def model() -> ModelAnswer:
        classifier = service.classifier
        return ModelAnswer(
            model=classifier.name,
            classes=list(classifier.class_names),
            image_size=classifier.preparation.size,
            channels=classifier.channels,
            backend=classifier.backend,
            explains=classifier.explains,
            body_bytes=service.limits.body_bytes,
            pixels=service.limits.pixels,
            formats=list(FORMATS),
            recnext=__version__,
        )

    @app.get("/health", summary="Answers while the process lives")
    async def health() -> StatusAnswer:
        return StatusAnswer(status="alive")

    @app.get("/ready", summary="Whether images are taken", responses={503: {"model": ErrorAnswer}})
    async def ready() -> StatusAnswer:
        if not service.batcher.running:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "not ready", kind="stopping")
        return StatusAnswer(status="ready")

    @app.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_errors(app: FastAPI) -> None:
    """Every error is one line of JSON."""

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        request.state.facts.update(refused=error.kind, reason=error.reason)
        return _line(error.status, error.reason, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        request.state.facts.update(refused="parameter")
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:])
        return _line(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: {first['msg']}", {})

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        return _line(HTTPStatus(error.status_code), error.detail, dict(error.headers or {}))

    @app.exception_handler(Exception)  # raised again afterwards, for the log
    async def failed(request: Request, error: Exception) -> Response:
        reason = "the server failed; its log tells why under this id"
        return _line(HTTPStatus.INTERNAL_SERVER_ERROR, reason, {}, id=request.state.id)


def _line(status: HTTPStatus, reason: str, headers: dict[str, str], **more: str) -> Response:
    return Response(error_line(reason, **more), int(status), headers, media_type="application/json")
