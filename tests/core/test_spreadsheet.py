from __future__ import annotations

import pandas as pd

from cellfeat.core.spreadsheet import with_formulas, without_formulas


def test_texts_are_no_formulas_and_come_back():
    frame = pd.DataFrame({"=name": ["=cmd|' /C calc'!A0", "plain", "@x", "'quoted"], "number": [-1.5, 2, 3, 4]})
    safe = without_formulas(frame)
    assert safe.columns.tolist() == ["'=name", "number"]
    assert safe["'=name"].tolist() == ["'=cmd|' /C calc'!A0", "plain", "'@x", "'quoted"]
    assert safe["number"].tolist() == [-1.5, 2, 3, 4]
    pd.testing.assert_frame_equal(with_formulas(safe), frame)
