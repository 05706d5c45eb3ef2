"""Serving a classifier: a web page and an HTTP API with dynamic batching and limits (the `serve` extra)."""
