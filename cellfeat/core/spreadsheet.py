"""Tables that people open in a spreadsheet program: a text stays a text and is never run as a formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula (OWASP, CSV injection)."""


def no_formula(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would run it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `no_formula` applied to its texts and to the names of its columns; numbers stay numbers."""
    return _texts(frame, no_formula).rename(columns=no_formula)


def with_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """What `without_formulas` was given."""
    return _texts(frame, _restored).rename(columns=_restored)


def _restored(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _texts(frame: pd.DataFrame, change: object) -> pd.DataFrame:
    texts = [name for name in frame if frame[name].map(type).eq(str).all()]
    return frame.assign(**{str(name): frame[name].map(change) for name in texts})
