"""Text that comes in and goes out: files of any encoding, JSON, cells of a table, and what a terminal may show."""

import json
import math
import re
from pathlib import Path
from typing import Any

from recnext.errors import RecNextError

_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# control characters of both sets, what changes the direction of writing, and breaks of lines
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_NODES = 100_000  # of a YAML document, aliases written out
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """The text with control characters, which a terminal would obey, written as escapes; line feeds stay."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, or in UTF-16 with its mark; a mark is no part of it.

    Raises:
        RecNextError: it is in another encoding.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise RecNextError(
            f"{path} is no {encoding.removesuffix('-sig').upper()} text (byte {error.start}): save it as UTF-8"
        ) from None


def read_json(path: Path, what: str = "a JSON file") -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: of the file.
        what: it should be, for errors.

    Raises:
        RecNextError: there is no such file, it cannot be read, or holds no JSON object.
    """
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise RecNextError(f"cannot read {path}: {error.strerror or error}") from None
    except RecNextError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecNextError(f"{path} is not valid JSON: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise RecNextError(f"{path} is not {what}: expected a JSON object, not {type(content).__name__}")
    return content


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        RecNextError: it is not valid, contains itself, or its aliases make it grow beyond measure.
        OSError: it cannot be read.
    """
    import yaml

    text = read_text(path)
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        if root is not None and _nodes(root, {}) > _NODES:
            raise RecNextError(f"{path} has more than {_NODES:,} entries once its aliases are written out")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        if isinstance(error, RecNextError):
            raise
        raise RecNextError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise RecNextError(f"{path} is nested too deeply, or contains itself") from None


def _nodes(node: Any, known: dict[int, int]) -> int:
    """The number of nodes below one, each alias counted again."""
    if id(node) not in known:
        parts = node.value if isinstance(node.value, list) else []
        parts = [part for pair in parts for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_nodes(part, known) for part in parts)
    return known[id(node)]


def to_json(value: Any, *, indent: int | None = None, default: Any = None) -> str:
    """JSON that every reader takes, and every terminal: null for numbers that are not finite, no lone surrogates, no
    control characters.

    Args:
        value: mappings, sequences, text, numbers.
        indent: spaces a level; None for one line.
        default: as of `json.dumps`.
    """
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False, default=default)
    text = _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text.encode("utf-8", "backslashreplace").decode()  # bytes of a name that is not UTF-8: \udc..


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def to_cell(value: Any) -> Any:
    """A value for a CSV file: text that a spreadsheet would run as a formula gets an apostrophe first."""
    if not isinstance(value, str):
        return value
    return "'" + value if value.startswith(_FORMULA) else value
