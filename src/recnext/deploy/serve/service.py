"""A classifier with its queue, processes and counters: from a request to its answer."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Optional, TypeVar

import torch
from fastapi import Request
from torch import Tensor

from recnext._version import __version__

from .batching import Answer, Batcher
from .body import read_upload
from .classifier import ServedClassifier
from .decoders import Decoders
from .decoding import PreparedImage, UploadDecoder
from .explanation import overlay
from .limits import Limits, RefusedError, unavailable, unprocessable
from .metrics import Metrics
from .schemas import ClassAnswer, ClassificationAnswer, ImageAnswer, Milliseconds

_EXPLANATIONS = 8  # in progress at most
_DECODERS = 4  # processes at most

Value = TypeVar("Value")


class Service:
    """What answers the requests of one server.

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
        self.metrics.server.info({"model": classifier.name, "backend": classifier.backend, "version": __version__})
        self.batcher: Batcher[Tensor, Tensor] = Batcher(
            classifier.logits,
            largest=largest_batch,
            patience=patience,
            queue=limits.queue,
            on_batch=self._count_batch,
        )
        self.metrics.queue.set_function(self.batcher.__len__)
        self.decoders: Decoders[PreparedImage] = Decoders(
            UploadDecoder(classifier.preparation.evaluation_transform(), classifier.channels, limits),
            count=min(os.cpu_count() or 1, _DECODERS),
            seconds=limits.decode_seconds,
        )
        self._places = asyncio.Semaphore(limits.requests)
        self._explanations = asyncio.Semaphore(_EXPLANATIONS)

    async def start(self) -> None:
        """Starts the processes and the queue, in the event loop."""
        await self.decoders.start()
        self.batcher.start()

    async def close(self) -> None:
        """Ends the processes and finishes the batch in progress."""
        self.decoders.close()
        await self.batcher.close()

    def check_ready(self) -> None:
        """Raises what keeps images from being answered.

        Raises:
            RefusedError: 503, the server stops, or decoding or the network hangs.
        """
        if not self.batcher.running:
            raise unavailable("not ready", kind="stopping")
        if self.decoders.stuck:
            raise unavailable("every decoding process has been busy with one image for seconds", kind="stuck")
        if self.batcher.seconds_busy > self.limits.answer_seconds:
            raise unavailable("the network has been busy with one batch for too long", kind="stuck")

    async def classify(self, request: Request, topk: int) -> ClassificationAnswer:
        """The likeliest classes of the image in a request."""
        async with _place(self._places, f"{self.limits.requests} requests are in progress already", kind="busy"):
            started = time.perf_counter()
            body, form = await read_upload(request, limits=self.limits)
            received = time.perf_counter()
            image, answer, decoded = await self._within(self._classified(body, form))
        times = {
            "receive": received - started,
            "decode": decoded - received,
            "queue": answer.queued,
            "compute": answer.computed,
        }
        for stage, seconds in times.items():
            self.metrics.parts.labels(stage).observe(seconds)
        milliseconds = Milliseconds(**{stage: round(1e3 * seconds, 3) for stage, seconds in times.items()})
        request.state.facts.update(bytes=len(body), batch=answer.batch, **milliseconds.model_dump())
        if not torch.isfinite(answer.result).all():
            reason = "the network's answer for this image is not a number: its weights or its precision are damaged"
            raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, reason, kind="nan")
        return ClassificationAnswer(
            classes=[
                ClassAnswer(index=score.index, name=score.name, probability=score.probability)
                for score in self.classifier.top(answer.result, topk)
            ],
            image=ImageAnswer(width=image.width, height=image.height, format=image.format),
            batch=answer.batch,
            milliseconds=milliseconds,
        )

    async def explain(self, request: Request, label: Optional[int]) -> bytes:
        """A PNG of what the network saw, with Grad-CAM over it."""
        if not self.classifier.explains:
            reason = "this server has no Grad-CAM: pip install 'recnext[explain]'"
            raise RefusedError(HTTPStatus.NOT_IMPLEMENTED, reason, kind="extra")
        count = len(self.classifier.class_names)
        if label is not None and label >= count:
            raise unprocessable(f"label {label}: there are {count} classes, from 0", kind="parameter")
        async with _place(self._explanations, "too many explanations are waiting", kind="queue"):
            body, form = await read_upload(request, limits=self.limits)
            return await self._within(self._explained(body, form, label))

    def _count_batch(self, images: int, seconds: float) -> None:
        self.metrics.batches.observe(images)
        self.metrics.batch_seconds.observe(seconds)

    async def _classified(self, body: bytes, form: Optional[str]) -> tuple[PreparedImage, Answer[Tensor], float]:
        image = await self.decoders.run(body, form)
        decoded = time.perf_counter()
        return image, await self.batcher.submit(torch.from_numpy(image.pixels)), decoded

    async def _explained(self, body: bytes, form: Optional[str], label: Optional[int]) -> bytes:
        pixels = torch.from_numpy((await self.decoders.run(body, form)).pixels)
        return await self.batcher.in_thread(lambda: overlay(pixels, self.classifier.explain(pixels, label=label)))

    async def _within(self, answer: Awaitable[Value]) -> Value:
        seconds = self.limits.answer_seconds
        try:
            return await asyncio.wait_for(answer, seconds)
        except asyncio.TimeoutError:
            raise unavailable(f"no answer within {seconds:g} s", kind="timeout", retry_after=5) from None


@asynccontextmanager
async def _place(places: asyncio.Semaphore, reason: str, *, kind: str) -> AsyncGenerator[None, None]:
    """Takes a place for as long as the block runs, or refuses."""
    if places.locked():
        raise unavailable(reason, kind=kind)
    async with places:
        yield
