"""What the server counts, for Prometheus."""

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
    """Counters of one server, in a registry of their own; labels take few values, whatever clients send."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

        def histogram(name: str, what: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(f"recnext_{name}", what, labels, buckets=buckets, registry=registry)

        path = ("path", "method", "status")
        self.requests = Counter("recnext_requests", "Answered requests.", path, registry=registry)
        self.refused = Counter("recnext_refused", "Refused requests by reason.", ("reason",), registry=registry)
        self.seconds = histogram("request_seconds", "From a request's headers to the end of its answer.", "path")
        self.parts = histogram("stage_seconds", "Of a classification: receive, decode, queue, compute.", "stage")
        self.batches = histogram("batch_images", "Images computed together.", buckets=_BATCHES)
        self.batch_seconds = histogram("batch_seconds", "Computing a batch.")
        self.in_progress = Gauge("recnext_requests_in_progress", "Requests not answered yet.", registry=registry)
        self.queue = Gauge("recnext_queue_images", "Decoded images waiting for the network.", registry=registry)
        self.server = Info("recnext_server", "What is served.", registry=registry)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
