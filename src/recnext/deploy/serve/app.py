"""The page and the HTTP API of a classifier."""

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Optional

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from recnext._version import __version__

from .body import FIELD
from .connections import error_line
from .limits import FORMATS, MEDIA_TYPES, RefusedError
from .metrics import CONTENT_TYPE
from .schemas import ClassificationAnswer, ErrorAnswer, ModelAnswer, StatusAnswer
from .service import Service

STATIC = Path(__file__).parent / "static"
_PAGES = {
    "/": "index.html",
    "/page.js": "page.js",
    "/docs": "docs.html",
    "/docs.js": "docs.js",
    "/page.css": "page.css",
    "/icon.svg": "icon.svg",
}

_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_FORM: dict[str, Any] = {"type": "object", "required": [FIELD], "properties": {FIELD: _FILE}}
_SCHEMAS = {**dict.fromkeys(MEDIA_TYPES, _FILE), "multipart/form-data": _FORM}
_CONTENT = {kind: {"schema": schema} for kind, schema in _SCHEMAS.items()}
_REFUSALS = {
    408: "the body came too slowly",
    413: "too many bytes or pixels",
    415: "no image of an accepted format",
    422: "a damaged image, or a parameter out of range",
    503: "too busy; Retry-After tells when to come again",
}
_TAKES_IMAGES: dict[str, Any] = {
    "responses": {status: {"model": ErrorAnswer, "description": reason} for status, reason in _REFUSALS.items()},
    "openapi_extra": {"requestBody": {"required": True, "content": _CONTENT}},
}


class _Png(Response):
    media_type = "image/png"


def make_app(service: Service, *, hosts: Optional[Collection[str]] = None) -> FastAPI:
    """The ASGI application.

    Args:
        service: what it serves; started and closed with the application.
        hosts: names that requests may be addressed to, as starlette's `TrustedHostMiddleware` takes them; None is any.
            Another name may be another site's that points here (DNS rebinding).
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        await service.start()
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
    if hosts is not None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=sorted(hosts), www_redirect=False)
    for path, name in _PAGES.items():
        app.add_route(path, partial(_page, name), include_in_schema=False)
    _add_errors(app)
    _add_state(app, service)

    @app.post("/v1/classify", summary="The likeliest classes of an image", **_TAKES_IMAGES)
    async def classify(
        request: Request, topk: Annotated[int, Query(ge=1, le=1000, description="classes to answer")] = 5
    ) -> ClassificationAnswer:
        return await service.classify(request, topk)

    @app.post(
        "/v1/explain",
        summary="Where an image speaks for a class: the network's input with Grad-CAM over it",
        response_class=_Png,
        **_TAKES_IMAGES,
    )
    async def explain(
        request: Request,
        label: Annotated[Optional[int], Query(ge=0, description="index of a class; by default the likeliest")] = None,
    ) -> _Png:
        return _Png(await service.explain(request, label))

    return app


async def _page(name: str, request: Request) -> FileResponse:
    return FileResponse(STATIC / name)


def _add_state(app: FastAPI, service: Service) -> None:
    """Adds what is served, health, readiness and metrics."""

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
        service.check_ready()
        return StatusAnswer(status="ready")

    @app.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_errors(app: FastAPI) -> None:
    """Makes every error one line of JSON."""

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
        return _line(error.status_code, error.detail, dict(error.headers or {}))

    @app.exception_handler(Exception)  # raised again afterwards, for the log
    async def failed(request: Request, error: Exception) -> Response:
        reason = "the server failed; its log tells why under this id"
        return _line(HTTPStatus.INTERNAL_SERVER_ERROR, reason, {}, id=request.state.id)


def _line(status: int, reason: str, headers: dict[str, str], **more: str) -> Response:
    return Response(error_line(reason, **more), status, headers, media_type="application/json")
