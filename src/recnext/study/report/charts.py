"""Charts as SVG inside a page: they scale, follow its colours, and can be read aloud."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from zlib import crc32

from markupsafe import Markup

WIDTH, HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 40
_POINTS = 500  # of a line at most
_TICKS = 5


@dataclass(frozen=True)
class Line:
    """Points of a chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    """Values that are not finite leave gaps."""


@dataclass(frozen=True)
class Bar:
    """A bar of a reliability diagram."""

    low: float
    high: float
    images: int
    confidence: float
    """Mean in the bin, 0 to 1."""
    accuracy: float
    """0 to 1."""


def line_chart(lines: Sequence[Line], *, title: str, x_label: str, from_zero: bool = False) -> Markup:
    """Draws lines; each has its own dashes as well as its own colour.

    Args:
        lines: with at least one finite point among them.
        title: read aloud, with what each line does.
        x_label: under the axis.
        from_zero: whether the vertical axis begins at 0.
    """
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y if math.isfinite(y)]
    x_low, x_high = _padded(min(xs), max(xs), 0.0)
    y_low, y_high = _padded(0.0 if from_zero else min(ys), max(ys), 0.05)
    frame = _Frame(x_low, x_high, 0.0 if from_zero else y_low, y_high)
    parts = [frame.grid(x_label, whole_x=True)]
    for number, line in enumerate(lines):
        points = _thinned(line)
        if len(points) <= 30:
            parts += [f'<circle class="s{number}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3"/>'
                      for x, y in points if math.isfinite(y)]  # fmt: skip
        parts.append(f'<path class="line s{number}" d="{_path(frame, points)}"/>')
    return _svg(title, "; ".join(map(_in_words, lines)), parts)


def legend(lines: Sequence[Line]) -> Markup:
    """The names of a chart's lines beside their strokes; nothing for a lone line."""
    if len(lines) < 2:
        return Markup("")
    items = "".join(
        f'<li><svg viewBox="0 0 34 8" aria-hidden="true"><path class="line s{number}" d="M1 4H33"/></svg>'
        f"{escape(line.name)}</li>"
        for number, line in enumerate(lines)
    )
    return Markup(f'<ul class="legend">{items}</ul>')


def reliability_diagram(bars: Sequence[Bar], *, title: str) -> Markup:
    """Draws the accuracy of each bin of confidence against the diagonal of a network that knows what it knows.

    Args:
        bars: filled bins.
        title: read aloud, with the values.
    """
    frame = _Frame(0.0, 1.0, 0.0, 1.0)
    most = max(bar.images for bar in bars)
    parts = [frame.grid("confidence", whole_x=False)]
    for bar in bars:
        left, right, top = frame.x(bar.low), frame.x(bar.high), frame.y(bar.accuracy)
        strength = 0.25 + 0.75 * bar.images / most
        parts.append(
            f'<rect class="bar" x="{left + 0.5:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" '
            f'height="{frame.y(0) - top:.1f}" fill-opacity="{strength:.2f}"/>'
        )
    corners = f"M{frame.x(0):.1f} {frame.y(0):.1f}L{frame.x(1):.1f} {frame.y(1):.1f}"
    parts.append(f'<path class="line s1" d="{corners}"/>')
    words = "; ".join(
        f"{bar.images} images at confidence {bar.confidence:.2f}: {100 * bar.accuracy:.1f} % right" for bar in bars
    )
    return _svg(title, words, parts)


class _Frame:
    """The plane of a chart and its axes."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float) -> None:
        self.x_low, self.x_high, self.y_low, self.y_high = x_low, x_high, y_low, y_high

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def grid(self, x_label: str, *, whole_x: bool) -> str:
        parts = []
        for value in ticks(self.y_low, self.y_high):
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
        for value in ticks(self.x_low, self.x_high, whole=whole_x):
            x = self.x(value)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{number(value)}</text>')
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
        return "".join(parts)


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, about five of them; integers with `whole`."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def number(value: float) -> str:
    """A number as an axis shows it."""
    return f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.1e}".replace("e-0", "e-")


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    if high <= low:
        half = abs(low) / 2 or 0.5
        return low - half, low + half
    return low - share * (high - low), high + share * (high - low)


def _thinned(line: Line) -> list[tuple[float, float]]:
    """Every n-th point, and the last."""
    points = list(zip(line.x, line.y, strict=True))
    step = -(-len(points) // _POINTS)
    return [*points[:-1:step], points[-1]] if points else []


def _path(frame: _Frame, points: Sequence[tuple[float, float]]) -> str:
    commands, broken = [], True
    for x, y in points:
        if math.isfinite(y):
            commands.append(f"{'M' if broken else 'L'}{frame.x(x):.1f} {frame.y(y):.1f}")
        broken = not math.isfinite(y)
    return "".join(commands)


def _in_words(line: Line) -> str:
    finite: list[tuple[float, float]] = [(y, x) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    if not finite:
        return f"{line.name} is never finite"
    low, high = min(finite), max(finite)
    return (
        f"{line.name} goes from {finite[0][0]:.4g} to {finite[-1][0]:.4g}, "
        f"lowest {low[0]:.4g} at {low[1]:g}, highest {high[0]:.4g} at {high[1]:g}"
    )


def _svg(title: str, words: str, parts: Sequence[str]) -> Markup:
    name = f"chart{crc32((title + words).encode(errors='replace')):08x}"
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}t {name}d">'
        f'<title id="{name}t">{escape(title)}</title><desc id="{name}d">{escape(words)}</desc>{"".join(parts)}</svg>'
    )
