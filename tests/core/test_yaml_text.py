"""YAML from elsewhere: plain values, or one line that names the place."""

from __future__ import annotations

import os

import pytest

from cellfeat.core.yaml_text import parse_yaml, read_yaml_file
from cellfeat.errors import CellfeatError


def test_plain_values_come_through():
    text = (
        "a: {b: [1, 0x1F, 010, 1_000, -2.5, -.inf, true, no, null, ~, 'x', µ]}\nc: &c {x: 1}\nd: {<<: *c, x: 2, y: 3}"
    )
    assert parse_yaml(text, "f") == {
        "a": {"b": [1, 31, 8, 1000, -2.5, -float("inf"), True, False, None, None, "x", "µ"]},
        "c": {"x": 1},
        "d": {"x": 2, "y": 3},
    }
    assert parse_yaml("", "f") is None


def test_dates_times_and_ratios_are_texts():
    values = ["2020-01-01", "2020-01-01T10:00:00Z", "12:30:45", "1:30", "="]
    assert parse_yaml("".join(f"- {value}\n" for value in values), "f") == values


BOMB = "a: &a [1, 1]\n" + "".join(f"{b}: &{b} [{', '.join(9 * ['*' + a])}]\n" for a, b in zip("abcdefgh", "bcdefghi"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "line 6: aliases make it more than 100000 values"),
        (BOMB.replace("[", "{<<: [").replace("]", "]}").replace("{<<: [1, 1]}", "{x: 1}"), "aliases make it more"),
        ("&a [*a]", "line 1: holds itself by an alias"),
        ("a: " + 100_000 * "[", "line 1: nested deeper than 40"),
        (5000 * "- " + "x", "nested deeper than 40"),
        (5000 * "? ", "nested deeper than 40"),
        ("a: 1\nb: " + 5000 * "9", "line 2: '99999999999999999999' of 5000 characters is no int"),
        ("a: 0b_", "'0b_' of 3 characters is no int"),
        ("a: !!bool x", "is no bool"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' occurs twice"),
        ("a: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python/object/apply:os.system is not"),
        ("a: !!timestamp 2020-01-01", "is not read"),
        ('a: "\\ud800"', "line 1: an escape for a sign that is no text"),
        ('a: 1\n"\\e[2J": 2', "line 2: an escape for a sign that is no text"),
        ("? [1]\n: 2", "unhashable key"),
        ("a: 1\n---\na: 2", "expected a single document"),
        ("a: *b", "undefined alias 'b'"),
        ("a: \x01", "special characters are not allowed"),
        ("a: {", "line 1: "),
        ("a: b\n" * 60_000, "larger than 256 KiB"),
    ],
)
def test_other_texts_are_one_line(text, words):
    with pytest.raises(CellfeatError, match=words) as error:
        parse_yaml(text, "some.yaml")
    assert str(error.value).startswith("some.yaml: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_files(tmp_path):
    (tmp_path / "utf16.yaml").write_bytes("a: ä".encode("utf-16"))
    assert read_yaml_file(tmp_path / "utf16.yaml") == {"a": "ä"}
    (tmp_path / "latin.yaml").write_bytes("# x\na: ä".encode("latin-1"))
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_bytes(bytes(1 << 20))
    for name, words in {
        "latin.yaml": "not UTF-8 .byte 0xe4 in line 2.",
        "pipe.yaml": "a folder or a device",
        "large.yaml": "larger than 256 KiB",
        "none.yaml": "no such file",
    }.items():
        with pytest.raises(CellfeatError, match=words):
            read_yaml_file(tmp_path / name)
