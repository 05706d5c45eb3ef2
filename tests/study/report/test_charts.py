import math
import xml.etree.ElementTree as ElementTree

import pytest

from recnext.study.report.charts import WIDTH, Bar, Line, legend, line_chart, number, reliability_diagram, ticks


def parsed(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0.0012, [0, 0.0005, 0.001]),
        (97.1, 99.4, [97.5, 98, 98.5, 99]),
        (-3, 7, [-2, 0, 2, 4, 6]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(1, 2), (1, 300), (0.5, 1.5)])
def test_ticks_of_epochs_are_whole(low, high):
    values = ticks(low, high, whole=True)
    assert values
    assert all(value == int(value) and low <= value <= high for value in values)


def test_numbers_are_short():
    assert [number(value) for value in (0, 0.5, 1e-4, 300, 123456)] == ["0", "0.5", "1.0e-4", "300", "1.2e+05"]


def test_lines_are_where_their_values_are_and_gaps_stay_gaps():
    lines = [
        Line("training <loss>", [1, 2, 3, 4], [4.0, 3.0, math.nan, 1.0]),
        Line("validation", [1, 2, 3, 4], [2.0, 2.0, 2.0, 2.0]),
    ]
    drawing = parsed(line_chart(lines, title="Loss & more", x_label="epoch", from_zero=True))
    assert drawing.find("title").text == "Loss & more"
    words = drawing.find("desc").text
    assert words.startswith("training <loss> goes from 4 to 1, lowest 1 at 4, highest 4 at 1; validation goes from 2")
    first, second = (path.get("d") for path in drawing.iter("path") if "line" in path.get("class"))
    assert first.count("M") == 2
    assert first.count("L") == 1
    heights = {point.split()[1] for point in second.replace("M", "L").split("L") if point}
    assert len(heights) == 1
    assert len(list(drawing.iter("circle"))) == 7
    xs = [float(circle.get("cx")) for circle in drawing.iter("circle")]
    assert min(xs) > 40
    assert max(xs) == pytest.approx(WIDTH - 10)


def test_one_value_and_thousands_of_values():
    parsed(line_chart([Line("a", [1], [5.0])], title="a", x_label="epoch"))
    many = Line("a", list(range(10_000)), [math.sin(x / 900) for x in range(10_000)])
    drawing = line_chart([many], title="a", x_label="step")
    assert len(drawing) < 12_000
    assert drawing.count("<circle") == 0


def test_legend_is_for_several():
    assert legend([Line("a", [1], [1])]) == ""
    assert "&lt;b&gt;" in legend([Line("a", [1], [1]), Line("<b>", [1], [1])])


def test_reliability_bars_stand_where_they_should():
    bars = [Bar(0.2, 0.4, 10, 0.3, 0.5), Bar(0.8, 1.0, 40, 0.9, 1.0)]
    drawing = parsed(reliability_diagram(bars, title="x"))
    low, high = drawing.iter("rect")
    assert float(high.get("height")) == pytest.approx(2 * float(low.get("height")), rel=0.01)
    assert float(low.get("fill-opacity")) < float(high.get("fill-opacity")) == 1
    assert "10 images at confidence 0.30: 50.0 % right" in drawing.find("desc").text
