"""The example of CONTRIBUTING.md for a section of the report works as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
from page import check_page

from cellfeat.reporting import page, report, sections
from cellfeat.reporting.material import gather

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_a_function_its_line_and_a_template_make_a_section(store, tmp_path, monkeypatch):
    example = TEXT.partition("## A section of the report")[2]
    python, html = (re.search(rf"```{kind}\n(.*?)```", example, re.DOTALL)[1] for kind in ("python", "html"))
    function, _, line = python.partition("SECTIONS = ")
    names = vars(sections) | {}
    exec("from __future__ import annotations\n" + function, names)
    added = eval(line.replace("..., ", "").replace(", ...", ""), names)
    monkeypatch.setattr(report, "SECTIONS", [*sections.SECTIONS[:1], *added])
    template = jinja2.DictLoader({"sections/scores.html.j2": html})
    environment = page._environment()
    environment.loader = jinja2.ChoiceLoader([template, environment.loader])
    monkeypatch.setattr(page, "_environment", lambda: environment)
    text, found = check_page(report.write_report(tmp_path / "r.html", gather(store)))
    assert found.attributes("id") == ["glance", "scores"]
    assert "<li>site-a: 90.0 %</li>" in text
