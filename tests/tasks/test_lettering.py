import pytest

from recnext.tasks.lettering import lettered


def test_plain_names_stay():
    text, font = lettered("cafe 12 %", size=13)
    assert text == "cafe 12 %"
    assert font.getlength(text) > 20


@pytest.mark.parametrize(
    ("name", "spelled"), [("日本", "U+65E5U+672C"), ("고양이", "U+ACE0U+C591U+C774"), ("café №2", "cafe No2")]
)
def test_what_no_font_has_is_spelled(name, spelled):
    assert lettered(name, size=13, fonts=("none.ttf",))[0] == spelled
    text, font = lettered(name, size=13)
    assert text in (name, spelled)
    box = bytes(font.getmask("\U0010fffe"))
    assert not any(bytes(font.getmask(one)) == box for one in text if one != " ")


def test_control_characters_and_line_ends_are_not_drawn():
    assert lettered("a\x1b[31m\nb", size=13)[0] == "a\\x1b[31m b"
