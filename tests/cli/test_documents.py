"""Every command that the documents show exists, with the options that they show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cellfeat.cli.app import ALL, APP

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("datasets/*.md"), *ROOT.glob("examples/*.yaml")]
ANYWHERE = {"-h", "--help", "--version", "--debug", "--allow-outside"}


def commands(path: Path) -> list[str]:
    """Commands in code of one line, and in the lines of indented and fenced blocks."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ").replace("\\|", "|")
    spans = re.findall(r"`(cellfeat [^`]+)`", text)
    lines = re.findall(r"^(?: {4}|#   )(?:.*&& )?(cellfeat .*)$", text, re.MULTILINE)
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines += re.findall(r"^(?:.*&& )?(cellfeat .*)$", block, re.MULTILINE)
    return [re.split(r" && | \| |  #|; ", command)[0] for command in (*spans, *lines)]


def options(name: str) -> set[str]:
    command = ALL[name].build(APP)
    return {spelled for parameter in command.params for spelled in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_of_documents_exist(path):
    known = {name: options(name) for name in ALL}
    unknown = []
    for text in commands(path):
        words = [word for word in shlex.split(text)[1:] if word not in ANYWHERE]
        if words[:1] in ([], ["COMMAND"], ["..."]):
            continue
        name, *arguments = words
        for one in name.split("|"):
            given = {argument.partition("=")[0] for argument in arguments if argument.startswith("-")}
            if one not in known or not given <= known[one]:
                unknown.append(text)
    assert unknown == []


def test_the_documents_have_the_commands_that_are_checked():
    assert sum(len(commands(path)) for path in DOCUMENTS) > 60
    assert commands(ROOT / "README.md") == ["cellfeat dump FOLDER", "cellfeat demo"]


def test_the_page_of_the_command_line_has_every_command():
    text = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    assert [name for name in ALL if f"\n### {name}\n\n```{{cellfeat}} {name} -h\n" not in text] == []
