"""What docs/faithfulness.md points to is there: files, names, tests and commands; every item has a state."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "faithfulness.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [ARHWL]:\d", line)
]
CODE = [code for row in ROWS for cell in row[2:] for code in re.findall(r"`([^`]+)`", cell)]
FOLDERS = ("", "cellfeat/", "detectron_configs/", "examples/", "cellfeat/evaluation/published/")


def found(path: str) -> Path | None:
    """Where a file of the table lies."""
    return next((ROOT / folder / path for folder in FOLDERS if (ROOT / folder / path).exists()), None)


def test_every_item_has_a_state():
    assert len(ROWS) > 80
    for row in ROWS:
        state = row[-1].removesuffix(" |")
        assert re.match(r"works|differs because|not possible here|printed as|stated in prose", state), row


def test_every_item_that_works_is_shown_by_a_test_or_a_command():
    for row in ROWS:
        if len(row) == 5 and row[-1].startswith("works"):
            assert re.search(r"`(tests/|cellfeat )", " ".join(row[2:])), row


@pytest.mark.parametrize("kind", ["tests", "modules", "configs"])
def test_the_files_and_the_names_in_them_are_there(kind):
    suffix = {"tests": r"tests/[\w/]+\.py", "modules": r"(?!tests/)[\w/]+\.py", "configs": r"[\w/*-]+\.ya?ml"}[kind]
    named = [match for code in CODE if (match := re.fullmatch(rf"({suffix})(?:: (.+))?", code))]
    assert len(named) > {"tests": 40, "modules": 20, "configs": 3}[kind]
    missing = []
    for match in named:
        path, names = match[1], re.findall(r"\w+", match[2] or "")
        if "*" in path:
            missing += [] if list((ROOT / "cellfeat").glob(path)) else [path]
        elif (file := found(path)) is None:
            missing.append(path)
        else:
            text = file.read_text(encoding="utf-8")
            missing += [
                f"{path}: {name}"
                for name in names
                if not re.search(rf"\b(def|class) {name}\b|^\s*{name}\b", text, re.M)
            ]
    assert missing == []


def test_the_commands_are_there():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cellfeat" / "cli").glob("*.py"))
    used = {match[1] for code in CODE if (match := re.match(r"cellfeat ([a-z-]+)", code))}
    assert len(used) > 4
    assert [name for name in used if f"\ndef {name.replace('-', '_')}(" not in text] == []
