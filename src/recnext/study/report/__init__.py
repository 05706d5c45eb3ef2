"""One page about a run: a self-contained HTML file."""

from .build import build_report

__all__ = ["build_report"]
