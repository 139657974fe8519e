"""One HTML file that tells a haematologist what was done and how well it works."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cellfeat.reporting.material import Reconstructions, gather
from cellfeat.reporting.page import write_page
from cellfeat.reporting.sections import SECTIONS

if TYPE_CHECKING:
    from cellfeat.store import Store

log = logging.getLogger(__name__)


def write_report(
    output: str | Path,
    store: Store,
    embeddings: Sequence[str | Path] = (),
    *,
    evaluation: str | Path | None = None,
    comparison: str | Path | None = None,
    autoencoder: str | Path | None = None,
    detector: str | Path | None = None,
    config_text: str = "",
    reconstructions: Reconstructions | None = None,
    same_site: Mapping[str, str] | None = None,
) -> Path:
    """Write the report of whatever there is; a section without content is left out.

    Args:
        output: The .html file; figures are embedded in it.
        store: The cells.
        embeddings: Embedding files of this store, each of another method.
        evaluation: Folder that `evaluate` wrote about these embeddings.
        comparison: Output folder of `compare` on this store; in place of an evaluation.
        autoencoder: Folder of its training: metrics.csv and the inputs of record.json are shown.
        detector: Folder of its training: metrics.json (JSON lines) and evaluation.json are shown.
        config_text: The run's configuration, shown as it is.
        reconstructions: Rows of the store, and by a method's name what it draws of them, (n, S, S, 3) uint8 RGB.
        same_site: Our domain's name to the paper's where both come from the same place, as
            {"pbc-barcelona": "Acevedo-20"}; equal names match anyway.

    Returns:
        `output`.

    Raises:
        CellfeatError: Something is of another store or does not fit the rest; then nothing is written.
    """
    material = gather(
        store,
        embeddings,
        evaluation,
        comparison,
        autoencoder,
        detector,
        config_text,
        reconstructions,
        same_site,
    )
    made = [(section, section.make(material)) for section in SECTIONS]
    path = write_page(
        output,
        "report.html.j2",
        title="Methods compared across laboratories" if material.compared else "White blood cells across laboratories",
        cells=len(store),
        domains=sorted(set(material.cells["domain"])),
        sections=[(section, content) for section, content in made if content is not None],
    )
    log.info("%s: %d sections, %.1f MB", path, sum(content is not None for _, content in made), _megabytes(path))
    return path


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6
