"""SIGINT and SIGTERM as a request: the loop asks at a step's end, saves and leaves."""

import signal
from types import FrameType, TracebackType
from typing import Any, Optional


class StopRequest:
    """While active (a context manager), the first SIGINT or SIGTERM is noted; a second interrupts at once.

    Outside the main thread, where Python forbids handlers, it stays quiet.
    """

    def __init__(self) -> None:
        self.signal: Optional[int] = None
        self._previous: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    def note(self, number: int, _: Optional[FrameType] = None) -> None:
        """The handler."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self.note)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
