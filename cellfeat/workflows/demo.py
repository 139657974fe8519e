"""`cellfeat demo`: three synthetic laboratories, then the pipeline that anyone would run on real ones."""

from __future__ import annotations

import json
from pathlib import Path

from cellfeat.core.files import write_text
from cellfeat.core.text import read_text
from cellfeat.data.synthetic import SITES, write_sites
from cellfeat.errors import CellfeatError
from cellfeat.workflows.pipeline import run_pipeline

IMAGES_PER_SITE = 208  # 16 of each class

PIPELINE = """\
# All steps on three synthetic laboratories; copy it, name your own datasets, and run `cellfeat run` on it.
output: {output}
data_root: {data_root}
detector: # the one that comes with cellfeat; train: [...] trains one
  test: [{test}]
dump:
  datasets: [{sites}]
  precision: bf16
autoencoder:
  preset: transfer # what carries across laboratories; paper is the publication's
  anchor: {anchor}
  batch_size: 32 # so few cells make too few steps of more
  image_fraction: 0.03 # one picture of each batch: the image decoder is nearly all of the arithmetic
  precision: bf16
evaluation: # 5 runs, 200 trees and 1,000 resamples by default: a minute and more for each method
  runs: 3
  trees: 100
  bootstrap: 200
"""


def run_demo(folder: Path, start: str | None = None) -> Path:
    """Draw the sites, write `pipeline.yaml` and run it; results that are there are kept.

    Args:
        folder: Where everything goes: datasets/, pipeline.yaml, run/.
        start: Redo this stage of the pipeline and all after it.

    Returns:
        The report.

    Raises:
        CellfeatError: The folder holds datasets or a pipeline that are not the demo's; they are left as they are.
    """
    path, text = folder / "pipeline.yaml", pipeline_text(folder)
    if path.exists() and read_text(path) != text:
        raise CellfeatError(f"{path}: is not the demo's", "run it with `cellfeat run`, or choose another folder")
    write_sites(folder / "datasets", IMAGES_PER_SITE)
    write_text(path, text)
    return run_pipeline(path, start)


def store_of(folder: Path) -> Path:
    """The store of a demo that was run in that folder."""
    return folder / "run" / "dump" / "store"


def embeddings_of(folder: Path) -> list[Path]:
    """The embeddings of a demo that was run in that folder."""
    return sorted((folder / "run" / "embed").glob("*.h5"))


def pipeline_text(folder: Path) -> str:
    """The pipeline of a demo in that folder, as YAML."""
    sites = [site.name for site in SITES]
    return PIPELINE.format(
        output=json.dumps((folder / "run").as_posix(), ensure_ascii=False),  # quoted: a name may hold a colon
        data_root=json.dumps((folder / "datasets").as_posix(), ensure_ascii=False),
        sites=", ".join(sites),
        test=", ".join(f"{site}@val" for site in sites),
        anchor=sites[0],
    )
