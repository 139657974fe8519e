"""The table of docs/faithfulness.md points to files that are there, and gives every item a state."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "faithfulness.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [ARHWL]:\d", line)
]


def test_every_item_has_a_state():
    assert len(ROWS) > 80
    for row in ROWS:
        state = row[-1].removesuffix(" |")
        assert re.match(r"works|differs because|not possible here|printed as|stated in prose", state), row


def test_what_is_pointed_to_is_there():
    text = " ".join(" ".join(row) for row in ROWS)
    tests = re.findall(r"`(tests/[\w/]+\.py)", text)
    assert len(tests) > 40
    missing = [path for path in tests if not (ROOT / path).is_file()]
    modules = re.findall(r"`((?:autoencoder|methods|data|evaluation|reporting|store)/[\w/]+\.py)", text)
    missing += [path for path in modules if not (ROOT / "cellfeat" / path).is_file()]
    assert missing == []
