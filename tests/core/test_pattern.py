import unicodedata

import pytest

from cellfeat.core.pattern import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"P(\d+)/", "a/P12/3.png", "12"),
        (r"^(\w+)_", "Müller_1.png", "Müller"),
        (r"([\w-]+)\.", "Präparat-3.png", "Präparat-3"),
        (r"(\W)b", "äb a-b", "-"),
        (r"([^\d/]+)\d", "x/ab12", "ab"),
        (r"([[:alpha:]]\w)", "1ab", "ab"),
        (r"([]\w]+)$", "x/]ä", "]ä"),
        (r"\\(\w+)", r"a\b", "b"),
        (r"(?P<patient>[^_]+)_", "kind 1_2.png", "kind 1"),
    ],
)
def test_letters_and_digits_are_those_of_all_scripts(pattern, text, found):
    assert compile_pattern(pattern).search(text)[1] == found
    assert compile_pattern(unicodedata.normalize("NFD", pattern)).search(text)[1] == found


def test_no_pattern_takes_more_than_linear_time():
    assert compile_pattern(r"(a+)+$").search("a" * 5000 + "b") is None
    assert compile_pattern(r"(\w*\w*)*(a|aa)+$").search("a" * 5000 + "!") is None


@pytest.mark.parametrize(
    "pattern", ["(", "*", r"(?<=x)y", r"(\w)\1", "(a{1000}){1000}", "\ud800", "(" * 2000, r"\p{Nothing}"]
)
def test_what_cannot_be_searched_is_one_line(pattern):
    with pytest.raises(ValueError, match=r"is not a regular expression of RE2") as error:
        compile_pattern(pattern)
    assert "\n" not in str(error.value)
