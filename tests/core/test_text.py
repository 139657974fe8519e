import os

import pytest

from cellfeat.core.text import read_text
from cellfeat.errors import CellfeatError

TEXT = "file,class\nPräparat 1.png,Größe µ\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_unicode_of_any_kind_is_read(tmp_path, encoding, ending):
    path = tmp_path / "labels.csv"
    path.write_bytes(TEXT.replace("\n", ending).encode(encoding))
    assert read_text(path) == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("cp1252"), "labels.csv: not UTF-8 .byte 0xe4 in line 2.; save it as UTF-8 .Excel"),
        (TEXT.encode("cp850"), "labels.csv: not UTF-8"),
        ("細胞\n".encode("gbk"), "labels.csv: not UTF-8"),
        ("細胞\n".encode("utf-16")[:-1], "labels.csv: not UTF-16"),
        (b"file,class\0\n" + b"a.png,MON\n" * 20, "not a text file, it holds NUL"),
        (bytes(range(256)) * 20, "not UTF-8"),
    ],
)
def test_other_encodings_are_refused_with_the_way_out(tmp_path, content, message):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(CellfeatError, match=message) as error:
        read_text(path)
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("pipe", "a folder or a device"), (".", "a folder or a device"), ("none", "no such file")):
        with pytest.raises(CellfeatError, match=message):
            read_text(tmp_path / name)
