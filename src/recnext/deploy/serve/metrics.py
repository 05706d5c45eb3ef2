"""What the server counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Of `Metrics.text`."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server; their names begin with ``recnext_``."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "recnext_requests", "Answered requests.", ("path", "method", "status"), registry=registry
        )
        self.refused = Counter("recnext_refused", "Refused requests by reason.", ("reason",), registry=registry)
        self.seconds = Histogram(
            "recnext_request_seconds",
            "From the headers of a request to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.parts = Histogram(
            "recnext_stage_seconds",
            "Of a classification: receive, decode, queue, compute.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batches = Histogram(
            "recnext_batch_images", "Images computed together.", buckets=_BATCHES, registry=registry
        )
        self.batch_seconds = Histogram(
            "recnext_batch_seconds", "Computing a batch.", buckets=_SECONDS, registry=registry
        )
        self.in_progress = Gauge("recnext_requests_in_progress", "Requests not answered yet.", registry=registry)
        self._queue = Gauge("recnext_queue_images", "Decoded images waiting for the network.", registry=registry)
        self._info = Info("recnext_server", "What is served.", registry=registry)

    def describe(self, **labels: str) -> None:
        """Labels of ``recnext_server_info``."""
        self._info.info(labels)

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Reads the queue's length when asked."""
        self._queue.set_function(length)

    def batch(self, images: int, seconds: float) -> None:
        """Counts a computed batch."""
        self.batches.observe(images)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
