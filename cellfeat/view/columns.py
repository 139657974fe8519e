"""What cells can be coloured and filtered by: a column is a category or a number a cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cellfeat.reporting.palette import class_style, domain_colours, in_reading_order

MAX_NAMES = 2000  # different values of a column; one with more is no category to choose from
OTHER = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#4d4d4d", "#c9b90a")  # Okabe and Ito
# viridis of matplotlib at 0, 1/8, ..., 1: it gets lighter all the way, which every kind of colour vision sees.
SCALE = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")


@dataclass(frozen=True)
class Column:
    """One value a cell.

    Attributes:
        name: As the page shows it.
        values: (n,) int32 codes of `names`, -1 for none; or, of a number, float32 with NaN for none.
        names: The values of a category, in reading order; none for a number.
        colours: Of each name, "#rrggbb"; of a number, the scale from the lowest to the highest.
        shown: What each name is called in prose.
    """

    name: str
    values: np.ndarray
    names: list[str] = field(default_factory=list)
    colours: Sequence[str] = SCALE
    shown: list[str] = field(default_factory=list)

    @property
    def is_number(self) -> bool:
        return self.values.dtype == np.float32


def classes(name: str, labels: np.ndarray, known: Sequence[str] = ()) -> Column:
    """A column of class names; `known` are further names that a cell can get."""
    styles = {label: class_style(label) for label in in_reading_order([*labels.tolist(), *known])}
    return _coded(name, labels, list(styles), lambda label: styles[label].colour, lambda label: styles[label].name)


def domains(values: np.ndarray) -> Column:
    """The column of laboratories."""
    colours = domain_colours(values.tolist())
    return _coded("domain", values, sorted(colours), lambda value: colours[value][0])


def texts(name: str, values: np.ndarray) -> Column | None:
    """A column of metadata: numbers where all are, else a category; None with too many values."""
    names = sorted(set(values.tolist()), key=lambda value: (value == "", value))
    if len([value for value in names if value]) > len(OTHER):
        numbers = pd.to_numeric(pd.Series(values).replace("", None), errors="coerce").to_numpy(np.float32)
        if np.isfinite(numbers[values != ""]).all():
            return number(name, numbers)
    if len(names) > MAX_NAMES:
        return None
    return _coded(name, values, names, lambda value: OTHER[names.index(value) % len(OTHER)] if value else "#d4d4d4")


def number(name: str, values: np.ndarray) -> Column:
    """A column of numbers."""
    with np.errstate(over="ignore"):
        single = np.asarray(values, np.float32)
    return Column(name, np.where(np.isfinite(single), single, np.float32(np.nan)))


def _coded(
    name: str,
    values: np.ndarray,
    names: list[str],
    colour: Callable[[str], str],
    shown: Callable[[str], str] = lambda value: value or "(none)",
) -> Column:
    codes = pd.Index(names).get_indexer(pd.Index(values)).astype(np.int32)
    return Column(name, codes, names, [colour(value) for value in names], [shown(value) for value in names])
