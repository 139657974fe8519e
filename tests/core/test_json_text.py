"""JSON from elsewhere: parsed, or one line that names the file."""

from __future__ import annotations

import os

import pytest

from cellfeat.core import json_text
from cellfeat.core.files import read_json
from cellfeat.core.json_text import parse_json
from cellfeat.errors import CellfeatError


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_of_any_unicode(coding):
    assert parse_json('{"µ": [1, 2.5, null, true, "ä"]}'.encode(coding), "f") == {"µ": [1, 2.5, None, True, "ä"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[" + 5000 * b"9" + b"]", "an integer of 5000 digits, which begins with 999999999999"),
        (b"[" + 400 * b"9" + b"]", "an integer of 400 digits"),  # float() of it would overflow
        (b'{"a": 1, "b": {"a": 1, "a": 2}}', "the key 'a' occurs twice"),
        (b"{", "line 1 column 2"),
        (b"", "Expecting value"),
    ],
)
def test_other_texts_are_one_line(content, words):
    with pytest.raises(CellfeatError, match=words) as error:
        parse_json(content, "some.json")
    assert str(error.value).startswith("some.json: not a JSON file (")
    assert "\n" not in str(error.value)


def test_other_encodings_are_refused_with_the_way_out():
    with pytest.raises(CellfeatError, match=r"some\.json: not UTF-8 \(byte 0xe4\); save it as UTF-8"):
        parse_json('{"a": "ä"}'.encode("cp1252"), "some.json")


def test_long_texts_of_digits_are_no_integers():
    assert parse_json(b'["' + 400 * b"9" + b'", 12]', "f") == [400 * "9", 12]


def test_what_does_not_fit_the_memory_is_not_parsed(monkeypatch):
    content = b"[" + 1_000_000 * b"[]," + b"0]"
    assert len(parse_json(content, "f")) == 1_000_001
    monkeypatch.setattr(json_text, "available_memory", lambda: 1 << 26)
    with pytest.raises(CellfeatError, match=r"takes up to 0\.2 GiB of memory, more than is free"):
        parse_json(content, "f")


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("pipe.json", "."):
        with pytest.raises(CellfeatError, match="a folder or a device"):
            read_json(tmp_path / name)
