"""What an export says at its end: a table to read and JSON to keep."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from rich import box
from rich.table import Table
from rich.text import Text

from recnext.screen import bold

from .proof import TOLERANCE, Comparison
from .targets import Contents, Port

_OPERATORS = 6  # kinds shown in the table; all are in the JSON


@dataclass(frozen=True)
class Judgement:
    """Accuracy on labelled images, and speed, before and after."""

    images: int
    before: float
    """Top-1 of the original in PyTorch, in percent."""
    after: float
    """Top-1 of the file."""
    limit: float
    """Largest loss, in points."""

    @property
    def loss(self) -> float:
        """In points; negative where the file is better."""
        return self.before - self.after


@dataclass(frozen=True)
class Exported:
    """One file that was made, and what is known of it."""

    target: str
    path: Path
    """The main file or folder."""
    precision: str
    size_on_disk: int
    """In bytes, with everything that belongs to it."""
    contents: Contents
    norms: int
    """BatchNorms left."""
    comparisons: tuple[Comparison, ...]
    versions: dict[str, str]
    header: dict[str, str]
    """What travels in the file, or in the report where the format has no place for it."""
    latency_ms: Optional[float] = None
    """Median of one call on an input of the spec's size, one image; None where it was not run."""
    judgement: Optional[Judgement] = None
    unproved: str = ""
    others: tuple[Path, ...] = field(default=())
    """Files that belong to the main one."""

    @property
    def problem(self) -> str:
        """Why the file must not be used; empty when it may."""
        if self.norms:
            return f"{self.norms} BatchNorms are left"
        tolerance = TOLERANCE.get(self.precision)
        worst = max((row.relative for row in self.comparisons), default=0.0)
        if worst == float("inf"):
            return "outputs are not numbers, or of other shapes"
        if tolerance is not None and not worst <= tolerance:
            return f"outputs differ by {worst:.1e} of their spread, over {tolerance:.0e}"
        if self.judgement is not None and self.judgement.loss > self.judgement.limit:
            return f"top-1 falls by {self.judgement.loss:.2f} points, over {self.judgement.limit:g}"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for `recnext.text.to_json`."""
        values = asdict(self) | {"path": self.path.name, "others": [path.name for path in self.others]}
        return {**values, "passed": not self.problem, "problem": self.problem}


def table(exported: Sequence[Exported]) -> Table:
    """One row a file, and what was compared below it."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title="Exported", title_justify="left")
    drawn.add_column("file", no_wrap=True, overflow="fold")
    for title in ("MB", "ms", "input", "max abs", "relative", "top-1\nsame"):
        drawn.add_column(title, justify="left" if title == "input" else "right", no_wrap=title == "input")
    drawn.add_column("")
    for item in exported:
        speed = "" if item.latency_ms is None else f"{item.latency_ms:.2f}"
        state = Text("fails", "red") if item.problem else Text("ok", "green")
        own: tuple[Union[str, Text], ...] = (bold(item.path.name), f"{item.size_on_disk / 1e6:.2f}", speed)
        for row in item.comparisons:
            agreement = "" if row.agreement is None else f"{row.agreement:.0%}"
            shape = "x".join(map(str, row.shape))
            drawn.add_row(*own, shape, f"{row.absolute:.1e}", f"{row.relative:.1e}", agreement, state)
            own, state = ("", "", ""), Text()
    return drawn


def lines(item: Exported) -> list[str]:
    """What the table has no room for, a line each."""
    contents = item.contents
    operators = ", ".join(f"{count} {name}" for name, count in list(contents.operators.items())[:_OPERATORS])
    more = len(contents.operators) - _OPERATORS
    found = [
        f"{item.path.name}: {contents.format}; " + ", ".join(f"{k} {v}" for k, v in item.versions.items()),
        f"  in {listed(contents.inputs)}; out {listed(contents.outputs)}",
        f"  {operators}{f' and {more} more kinds' if more > 0 else ''}; BatchNorms left: {item.norms}",
    ]
    if item.judgement is not None:
        judged = item.judgement
        found.append(
            f"  top-1 on {judged.images} images: {judged.before:.2f}% before, {judged.after:.2f}% after, "
            f"{max(judged.loss, 0):.2f} points lost (at most {judged.limit:g})"
        )
    elif item.precision == "int8":
        found.append("  not judged: int8 needs labelled images, --validate FOLDER")
    if item.unproved:
        found.append(f"  {item.unproved}")
    if item.problem:
        found.append(f"  FAILS: {item.problem}; nothing written")
    return found


def listed(ports: Sequence[Port]) -> str:
    """Inputs or outputs with their types and shapes."""
    return ", ".join(f"{p.name} {p.dtype} {'x'.join('?' if s is None else str(s) for s in p.shape)}" for p in ports)
