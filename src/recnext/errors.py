"""The one exception for a user's mistake: the command line prints it as one line, without a traceback."""


class RecNextError(ValueError):
    """Bad input. The message names the value, what was expected and the fix, in one line."""


class MissingExtraError(RecNextError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'recnext[{extra}]'")
