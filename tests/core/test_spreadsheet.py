from __future__ import annotations

import csv
import io

import pandas as pd

from cellfeat.core.spreadsheet import csv_text, with_formulas, without_formulas


def test_texts_are_no_formulas_and_come_back():
    frame = pd.DataFrame({"=name": ["=cmd|' /C calc'!A0", "plain", "@x", "'quoted"], "number": [-1.5, 2, 3, 4]})
    safe = without_formulas(frame)
    assert safe.columns.tolist() == ["'=name", "number"]
    assert safe["'=name"].tolist() == ["'=cmd|' /C calc'!A0", "plain", "'@x", "'quoted"]
    assert safe["number"].tolist() == [-1.5, 2, 3, 4]
    pd.testing.assert_frame_equal(with_formulas(safe), frame)


def test_a_text_beside_missing_values_is_no_formula_either():
    assert without_formulas(pd.DataFrame({"a": ["=x", None, 1]}))["a"].tolist() == ["'=x", None, 1]


def test_a_carriage_return_begins_no_row_and_so_no_formula():
    rows = [["name", "b"], ["a\r=cmd|' /C calc'!A0", "1.5"], ["'\r=1", "2.0"], ['"\n\r', "3.0"]]
    frame = pd.DataFrame({"name": ["a\r=cmd|' /C calc'!A0", "\r=1", '"\n\r'], "b": [1.5, 2, 3]})
    assert list(csv.reader(io.StringIO(csv_text(frame), newline=""))) == rows
    assert csv_text(pd.DataFrame({"name": ["plain"], "b": [1.5]})) == "name,b\nplain,1.5\n"
