"""Logs as lines of JSON on standard error, uvicorn's too: its own formatters write text."""

import json
import logging
from datetime import datetime, timezone
from typing import Any

LOG = logging.getLogger("recnext.deploy.serve")


class JsonFormatter(logging.Formatter):
    """One object a record: time, level, event and what ``extra={"facts": {...}}`` adds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.name != LOG.name:
            line["logger"] = record.name
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)  # in ASCII: no name's escape sequences reach the terminal


def configure_logs(level: str) -> None:
    """Sends everything that is logged, and Python's warnings, to standard error as JSON.

    Args:
        level: debug, info, warning or error: of recnext and uvicorn; others' lines begin at warning.
    """
    logging.captureWarnings(True)
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("recnext", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())


def log(event: str, *, level: int = logging.INFO, **facts: Any) -> None:
    """Writes a line."""
    LOG.log(level, event, extra={"facts": facts})
