"""The catalogue of named datasets: those that the package knows, and folders that describe themselves.

    dataset = open_dataset("wbc-seg-tecom@train")
    dataset.records(), dataset.coco(), dataset.dropped, dataset.spec

A dataset lives in `<data root>/<name>`. The package knows the public sets (`cellfeat/data/datasets/*.yaml`); any other
folder joins by a `dataset.yaml` of the same keys. datasets/README.md says where each set comes from.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from cellfeat.data.dataset import SPLITS, Dataset, ImageRecord
from cellfeat.data.spec import DatasetSpec, load_spec, parse_spec
from cellfeat.errors import CellfeatError

__all__ = ["Dataset", "DatasetSpec", "ImageRecord", "data_root", "dataset_names", "open_dataset"]


def data_root() -> Path:
    """The folder that holds the datasets: `$CELLFEAT_DATASETS`, or `datasets` in the working directory."""
    return Path(os.environ.get("CELLFEAT_DATASETS") or "datasets")


def dataset_names() -> list[str]:
    """All datasets that can be named, whether their images are present or not."""
    described = {path.parent.name for path in data_root().glob("*/dataset.yaml")}
    return sorted(_known() | described)


def open_dataset(name: str, root: Path | None = None) -> Dataset:
    """Open a dataset by name; its files are read when they are asked for.

    Args:
        name: A name of `dataset_names()`, if wanted with `@train` or `@val` for a part of it.
        root: The folder that holds the datasets; `data_root()` if None.

    Raises:
        CellfeatError: No such dataset or split, or a faulty dataset.yaml.
    """
    base, at, split = name.partition("@")
    if at and split not in SPLITS:
        raise CellfeatError(f"dataset {name}: no split {split!r}; use {base}@train, {base}@val or {base}")
    folder = (data_root() if root is None else root) / base
    if base in _known():
        text = (_entries() / f"{base}.yaml").read_text(encoding="utf-8")
        return Dataset(parse_spec(text, f"{base}.yaml", base), folder, split or None)
    if "/" not in base and (folder / "dataset.yaml").is_file():
        return Dataset(load_spec(folder / "dataset.yaml", base), folder, split or None)
    raise CellfeatError(
        f"dataset {base!r}: not in the catalogue ({', '.join(sorted(_known()))}) and no {folder / 'dataset.yaml'}; "
        "correct the name, set CELLFEAT_DATASETS to the folder that holds it, or describe it (datasets/README.md)"
    )


def _known() -> set[str]:
    return {entry.name.removesuffix(".yaml") for entry in _entries().iterdir() if entry.name.endswith(".yaml")}


def _entries() -> Any:  # importlib's Traversable has moved between Python versions
    return files("cellfeat.data") / "datasets"
