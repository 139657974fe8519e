"""An error is one line whatever the names in it are."""

from cellfeat.errors import CellfeatError, Damaged


def test_names_with_line_breaks_and_control_signs_are_escaped():
    error = Damaged("a\nb\x1b[2J.png: \ud800 ä", "write \r it again")
    assert str(error) == "a\\nb\\x1b[2J.png: \\ud800 ä; write \\r it again"
    assert (error.what, error.remedy) == tuple(str(error).split("; "))
    assert str(CellfeatError("plain")) == "plain"


def test_of_an_endless_word_the_beginning_is_shown():
    path = "/a" * 2048
    assert str(CellfeatError(f"{path}: holds {'x' * 6000}, here")) == f"{path}: holds {'x' * 200}... here"
