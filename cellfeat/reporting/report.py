"""One HTML file that tells a haematologist what was done and how well it works."""

from __future__ import annotations

import logging
from pathlib import Path

from cellfeat.reporting.material import Material
from cellfeat.reporting.page import write_page
from cellfeat.reporting.sections import SECTIONS

log = logging.getLogger(__name__)


def write_report(output: str | Path, material: Material) -> Path:
    """Write the report of whatever there is; a section without content is left out.

    Args:
        output: The .html file; figures are embedded in it.
        material: What `gather` read.

    Returns:
        `output`.
    """
    made = [(section, section.make(material)) for section in SECTIONS]
    path = write_page(
        output,
        "report.html.j2",
        title="Methods compared across laboratories" if material.compared else "White blood cells across laboratories",
        cells=len(material.store),
        domains=sorted(set(material.cells["domain"])),
        sections=[(section, content) for section, content in made if content is not None],
    )
    log.info("%s: %d sections, %.1f MB", path, sum(content is not None for _, content in made), _megabytes(path))
    return path


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6
