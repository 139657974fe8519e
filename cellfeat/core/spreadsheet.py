"""Tables that people open in a spreadsheet program: a text stays a text and is never run as a formula."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula (OWASP, CSV injection)."""


def no_formula(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would run it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def csv_text(frame: pd.DataFrame, **options: Any) -> str:
    """A frame without its index as CSV that is safe to open, see `without_formulas`; further options of `to_csv`."""
    safe = without_formulas(frame)
    # Before Python 3.13 a text with a carriage return is not quoted, and readers end the row there.
    broken = any("\r" in str(name) or safe[name].map(_has_return).any() for name in safe)
    quoting = csv.QUOTE_ALL if broken else csv.QUOTE_MINIMAL
    return safe.to_csv(index=False, lineterminator="\n", quoting=quoting, **options)


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `no_formula` applied to its texts and to the names of its columns; numbers stay numbers."""
    return _texts(frame, no_formula).rename(columns=no_formula)


def with_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """What `without_formulas` was given."""
    return _texts(frame, _restored).rename(columns=_restored)


def _restored(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _has_return(value: object) -> bool:
    return isinstance(value, str) and "\r" in value


def _texts(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    texts = [name for name in frame if frame[name].map(type).eq(str).any()]
    changed = {
        str(name): frame[name].map(lambda value: change(value) if isinstance(value, str) else value) for name in texts
    }
    return frame.assign(**changed)
