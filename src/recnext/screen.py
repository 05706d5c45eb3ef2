"""The console that every command prints with."""

from typing import Any

from rich.console import Console
from rich.text import Text

from recnext.text import printable


class Screen(Console):
    """A console that prints names and paths as they are: no markup, no highlighting, control characters as escapes.

    Lines are not wrapped; tables are as wide as the terminal.

    Args:
        stderr: writes there in place of stdout.
        quiet: writes nothing.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, markup=False, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Turns a string, a cell or a title into what is shown."""
        return super().render_str(printable(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints lines and tables, as rich does."""
        if all(isinstance(one, (str, Text)) for one in objects):
            options.setdefault("soft_wrap", True)
        super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Called when the reader of a pipe has gone.

        Raises:
            BrokenPipeError: always.
        """
        raise BrokenPipeError


def bold(text: str) -> Text:
    """A cell in bold."""
    return Text(printable(text), style="bold")
