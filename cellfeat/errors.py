"""The errors that a user is meant to read::

    CellfeatError               bad input, or a state that the user can change
    ├── NewerFormat             a file of a newer major version of its format
    ├── Damaged                 a file that is not what was written: cut, changed, forged
    ├── DifferentInputs         results of other inputs lie where these should go
    ├── Busy                    another process writes here
    ├── CannotWrite             the disk is full, read-only or out of reach
    └── MissingRequirement      a method lacks labels, a package or a dataset
        └── MissingWeights      a network lacks its weights file

Every other exception is a defect of cellfeat.
"""

from __future__ import annotations

import re

LONGEST, SHOWN = 5000, 200  # characters of a word


class CellfeatError(Exception):
    """Bad input or a state that the user can change.

    The message is one line that names the file, the key or the value and says what to do. The command line prints it
    and exits with status 2.

    Args:
        what: What is wrong and where.
        remedy: What to do about it; joined to `what` by "; ".
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what, self.remedy = _one_line(what), _one_line(remedy)
        super().__init__(f"{self.what}; {self.remedy}" if remedy else self.what)


def _one_line(text: str) -> str:
    """The text with escapes for what names in files can hold: line breaks, control signs, half characters.

    Of a word that is longer than any path the beginning is shown.
    """
    text = re.sub(rf"\S{{{LONGEST},}}", lambda word: f"{word[0][:SHOWN]}...", text)
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


class NewerFormat(CellfeatError):
    """A file of a newer major version of its format than this cellfeat reads."""


class Damaged(CellfeatError):
    """A file that is not what was written: cut, changed or forged."""


class DifferentInputs(CellfeatError):
    """Results of other inputs lie where the results of these should go."""


class Busy(CellfeatError):
    """Another process writes here."""


class CannotWrite(CellfeatError):
    """The disk is full, read-only or out of reach."""


class MissingRequirement(CellfeatError):
    """A method lacks what it needs: labels, masks, a target domain, an optional package, a dataset.

    Args:
        what: As of `CellfeatError`.
        remedy: As of `CellfeatError`.
        lacking: The requirement in one word: "cells", "labels", "masks", "weights", "target",
            "package" or "dataset".
    """

    def __init__(self, what: str, remedy: str = "", lacking: str = "") -> None:
        super().__init__(what, remedy)
        self.lacking = lacking


class MissingWeights(MissingRequirement):
    """A network lacks its weights file."""


def one_line(error: BaseException) -> str:
    """The message of an error, on one line."""
    return " ".join(str(error).split())
