import pytest
import torch

from recnext.engine.figures import caption, drawn, figure
from recnext.tasks.classification.draw import draw_confusion

pytest.importorskip("matplotlib")


def test_names_are_no_formulas_and_hold_what_a_font_can_draw():
    assert drawn("naïve → 2² $x$") == r"naïve → 2² \$x\$"
    assert drawn("a\x1bb") == "aU+001Bb"
    assert drawn("\U0001f9a9") in ("U+1F9A9", "\U0001f9a9")
    assert drawn("a\nb") == "a\nb"


def test_any_class_names_and_captions_are_drawn_without_a_warning(tmp_path, recwarn):
    names = ["日本", "$a_b$", "[bad] {x}", "caf\udce9"]
    draw_confusion(tmp_path / "c.png", torch.eye(4, dtype=torch.int64), names)
    with figure(tmp_path / "f.png", 3, 2) as drawing:
        drawing.add_subplot().plot([1, 2])
        caption(drawing, "r[v2]/$mine/日本 " * 10)
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]
