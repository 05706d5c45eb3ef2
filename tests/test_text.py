import json
import math

import pytest

from recnext.errors import RecNextError
from recnext.text import printable, read_text, read_yaml, to_cell, to_json


def test_a_terminal_gets_no_control_characters():
    assert printable("\x1b[2Ja\tb\r\nc\x9b\u202e") == "\\x1b[2Ja\\tb\\r\nc\\x9b\\u202e"
    assert printable("naïve 日本 é") == "naïve 日本 é"


@pytest.mark.parametrize(
    "content", ["müll\n".encode(), b"\xef\xbb\xbf" + "müll\r\n".encode(), "müll\n".encode("utf-16")]
)
def test_files_with_and_without_a_mark(content, tmp_path):
    (tmp_path / "x.txt").write_bytes(content)
    assert read_text(tmp_path / "x.txt") == "müll\n"


def test_another_encoding_is_refused(tmp_path):
    (tmp_path / "x.txt").write_bytes("a müll".encode("latin-1"))
    with pytest.raises(RecNextError, match=r"x\.txt is no UTF-8 text \(byte 3\): save it as UTF-8"):
        read_text(tmp_path / "x.txt")


def test_yaml(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: &x [1, 2]\nb: *x\n")
    assert read_yaml(path) == {"a": [1, 2], "b": [1, 2]}
    path.write_text("")
    assert read_yaml(path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
        ), "has more than 100,000 entries once its aliases are written out"),
        ("a: &a\n  b: *a\n", "contains itself"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: [1", "is not valid YAML"),
        ("a: 2024-13-45", "is not valid YAML"),
        ("a: !!python/object:os.system x", "is not valid YAML"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(content, message, tmp_path):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(RecNextError, match=message):
        read_yaml(tmp_path / "x.yaml")


def test_json_has_no_nan_and_no_lone_surrogates():
    value = {"a": math.nan, "b": (1.5, [-math.inf, "caf\udce9 日"]), "c": None}
    text = to_json(value)
    text.encode()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [1.5, [None, "caf\udce9 日"]], "c": None}
    assert "日" in text


def test_json_has_no_control_characters():
    name = "a\x1b[2J\x9b31m\x7f\u202e\t\n"
    text = to_json({name: [name]}, indent=1)
    assert json.loads(text) == {name: [name]}
    assert text.replace("\n", "").isprintable()


def test_cells_are_no_formulas():
    assert [to_cell(x) for x in ("=1+1", "+a", "-a", "@a", "a=", "", -1.5)] == [
        "'=1+1", "'+a", "'-a", "'@a", "a=", "", -1.5,
    ]  # fmt: skip
