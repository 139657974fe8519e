"""A function in a process of its own."""

from __future__ import annotations

import os
import time

import pytest

from cellfeat.errors import CellfeatError
from cellfeat.view.own_process import OwnProcess


def test_it_answers_again_and_again_and_what_it_raises_is_raised_here():
    double = OwnProcess(int, 60)
    try:
        assert [double("7"), double("8")] == [7, 8]
        with pytest.raises(CellfeatError, match="failed: ValueError"):
            double("seven")
        assert double("9") == 9
    finally:
        double.end()


@pytest.mark.parametrize(("function", "argument", "said"), [(time.sleep, 60, "took more than"), (os._exit, 3, "ended")])
def test_one_that_hangs_or_dies_is_one_line(function, argument, said):
    own = OwnProcess(function, 0.2 if function is time.sleep else 60)
    with pytest.raises(CellfeatError, match=said):
        own(argument)
    assert own._process is None
