import unicodedata

import pytest

from cellfeat.data.file_names import FileNames

KEYS = ["a.png", "s/a.png", "s/b c.tif", "t/Zellkörper.jpg", "x/1.png", "y/1.png"]


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("a.png", "a.png"),
        ("./a.png", "a.png"),
        (" a.png ", "a.png"),
        ("A.PNG", "a.png"),
        ("s\\a.png", "s/a.png"),
        ("s//a.png", "s/a.png"),
        ("t/../s/a.png", "s/a.png"),
        ("images/s/a.png", "s/a.png"),
        ("C:\\scans\\s\\a.png", "s/a.png"),
        ("s/b%20c.tif", "s/b c.tif"),
        ("b c", "s/b c.tif"),
        ("s/a", "s/a.png"),
        ("Zellkörper.jpg", "t/Zellkörper.jpg"),
        (unicodedata.normalize("NFD", "t/Zellkörper.jpg"), "t/Zellkörper.jpg"),
        ("upload/1/0a1b2c3d-b c.tif", "s/b c.tif"),
        ("1.png", None),
        ("gone.png", None),
        ("a/" * 500_000 + "a.png", None),  # each folder of a path is tried as its first
        ("", None),
    ],
)
def test_one_file_has_many_names(written, key):
    assert FileNames(KEYS).find(written) == key


def test_a_form_of_two_files_is_no_name():
    nfc, nfd = "ä.png", unicodedata.normalize("NFD", "ä.png")
    names = FileNames([nfc, nfd])
    assert names.find(nfd) == nfd
    assert names.find("./ä.png") is None
