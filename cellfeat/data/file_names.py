"""Which image a written name means: tables and label tools write one file in many ways."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from urllib.parse import unquote

from cellfeat.data.outside import LONGEST

UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""Label Studio puts eight hexadecimal digits before the name of an uploaded file."""


class FileNames:
    """Finds image files by written names.

    One file may be written as `a.png`, `./a.png`, ` a.png`, with backslashes, in either Unicode normal form (NFC,
    NFD), with `%20` for a space, in another case, without suffix, with folders before it (`images/a.png`,
    `C:\\scans\\a.png`), without its own folders, or with Label Studio's prefix. A form that fits several files fits
    none.

    Args:
        keys: Paths of the files below the image root, with forward slashes.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = set(keys)
        self._indices = [_index(self._keys, form) for form in (canonical, _folded, _stem, _base, _base_stem)]

    def find(self, written: str) -> str | None:
        """The key of the file that a written name means, None if there is none or it is not clear which."""
        if written in self._keys:
            return written
        if len(written) > LONGEST:  # no path; each of its parts would be tried as the beginning of one
            return None
        path = canonical(written)
        without_prefix = posixpath.join(posixpath.dirname(path), UPLOAD_PREFIX.sub("", posixpath.basename(path)))
        for name in dict.fromkeys((path, canonical(unquote(written)), without_prefix)):
            parts = name.split("/")
            for start in range(len(parts)):
                tail = "/".join(parts[start:])
                for index, form in zip(self._indices, [tail, *[tail.casefold()] * 4], strict=True):
                    if len(found := index.get(form, [])) == 1:
                        return found[0]
        return None


def canonical(name: str) -> str:
    """A path with forward slashes, in NFC, without spaces around it and without `.` and `..` inside it."""
    path = unicodedata.normalize("NFC", name.strip().replace("\\", "/"))
    return posixpath.normpath(path).lstrip("/") if path else ""


def _folded(name: str) -> str:
    return canonical(name).casefold()


def _stem(name: str) -> str:
    return posixpath.splitext(_folded(name))[0]


def _base(name: str) -> str:
    return posixpath.basename(_folded(name))


def _base_stem(name: str) -> str:
    return posixpath.basename(_stem(name))


def _index(keys: Iterable[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for key in keys:
        found[form(key)].append(key)
    return dict(found)
