"""Regular expressions of users, searched in time that grows with the text alone: RE2 never tries a text twice.

Python's own engine takes years for `(a+)+$` on a name of sixty letters. RE2 has no look-around and no references back
to a group, for the same reason. Letters and digits are those of all scripts here, as in Python.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import re2

TOKEN = re.compile(r"\\.|\[:\^?\w+:\]|\[\^?\]?|\]", re.DOTALL)
OUTSIDE = {r"\w": r"[\pL\pN_]", r"\W": r"[^\pL\pN_]", r"\d": r"\p{Nd}", r"\D": r"\P{Nd}"}
INSIDE = {r"\w": r"\pL\pN_", r"\d": r"\p{Nd}", r"\D": r"\P{Nd}"}  # of a class in brackets


def compile_pattern(pattern: str) -> Any:
    """A compiled expression with RE2's methods, such as `search` and `groups`, for texts in Unicode's form NFC.

    Raises:
        ValueError: It is none, or has what RE2 lacks; one line.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(_of_all_scripts(unicodedata.normalize("NFC", pattern)), options)
    except (re2.error, UnicodeError) as error:
        said = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else "no valid Unicode"
        raise ValueError(
            f"pattern {pattern!r} is not a regular expression of RE2, which has no look-around ({said})"
        ) from None


def _of_all_scripts(pattern: str) -> str:
    r"""The pattern with `\w` and `\d` as Python has them; RE2 takes them for ASCII."""
    parts, end, inside = [], 0, False
    for token in TOKEN.finditer(pattern):
        parts += [pattern[end : token.start()], (INSIDE if inside else OUTSIDE).get(token[0], token[0])]
        end = token.end()
        if token[0] == "]":
            inside = False
        elif token[0].startswith("[") and not token[0].startswith("[:"):
            inside = True
    return "".join([*parts, pattern[end:]])
