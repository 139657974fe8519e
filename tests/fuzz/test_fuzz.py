"""Mutated files end every reader in a value or in one line: no traceback, no signal, no hang."""

import fuzz
import pytest
from fuzz_readers import READERS

CASES = 60  # of each reader; `python benchmarks/fuzz.py` runs as many as one has time for


@pytest.mark.parametrize("name", READERS)
def test_mutated_files_end_in_a_value_or_in_one_line(tmp_path, name):
    outcomes = fuzz.run(READERS[name], 0, CASES, tmp_path)
    kept = [path.read_text() for path in sorted(tmp_path.glob("*.txt"))]
    assert {outcome for outcome, count in outcomes.items() if count} <= {"value", "one line"}, kept[:1]
    assert sum(outcomes.values()) == CASES


@pytest.mark.parametrize("name", READERS)
def test_seeds_are_sound(tmp_path, name):
    """At least one seed of a reader is a file that it reads: else nothing but the first check would be tested."""
    reader, read = READERS[name], 0
    seeds = reader.seeds()
    if reader.prepare is not None:
        reader.prepare(tmp_path, seeds)
    for number, seed in enumerate(seeds):
        try:
            reader.read(tmp_path, seed, number)
            read += 1
        except fuzz.CellfeatError:
            continue
    assert read
