"""The catalogue of named datasets: those that the package knows, and folders that describe themselves.

    dataset = open_dataset("wbc-seg-tecom@train")
    dataset.records(), dataset.coco(), dataset.dropped, dataset.spec

A dataset lives in `<data root>/<name>`. The package knows the public sets (`cellfeat/data/datasets/*.yaml`); any other
folder joins by a `dataset.yaml` of the same keys. datasets/README.md says where each set comes from.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from cellfeat.data.dataset import SPLITS, Dataset, ImageRecord
from cellfeat.data.listing import escaped, is_system_name
from cellfeat.data.spec import DatasetSpec, load_spec, parse_spec
from cellfeat.errors import CellfeatError

__all__ = [
    "Dataset",
    "DatasetSpec",
    "ImageRecord",
    "data_root",
    "dataset_names",
    "describe_datasets",
    "open_dataset",
]

log = logging.getLogger(__name__)

DESCRIPTION = "dataset.yaml"


def data_root() -> Path:
    """The folder that holds the datasets: `$CELLFEAT_DATASETS`, or `datasets` in the working directory."""
    return Path(os.environ.get("CELLFEAT_DATASETS") or "datasets")


def dataset_names(root: Path | None = None) -> list[str]:
    """All datasets that can be named, whether their images are present or not, and whether their description is sound.

    Args:
        root: The folder that holds the datasets; `data_root()` if None.
    """
    return sorted(_known() | set(_described(_root(root))))


def describe_datasets(root: Path | None = None) -> dict[str, DatasetSpec | CellfeatError]:
    """What the catalogue says about each dataset, or what is wrong with its dataset.yaml: none hides the others."""
    found: dict[str, DatasetSpec | CellfeatError] = {}
    for name in dataset_names(root):
        try:
            found[name] = open_dataset(name, root).spec
        except CellfeatError as error:
            found[name] = error
    return found


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
    described = _described(_root(root))
    if base in _known():
        if base in described:
            _say(f"{described[base] / DESCRIPTION}: is not read, the package knows {base}; rename the folder to use it")
        text = (_entries() / f"{base}.yaml").read_text(encoding="utf-8")
        return Dataset(parse_spec(text, f"{base}.yaml", base), _root(root) / base, split or None)
    if folder := described.get(unicodedata.normalize("NFC", base)):
        if escaped(folder.name) != folder.name:
            raise CellfeatError(f"{escaped(str(folder))}: its name is not valid Unicode; rename the folder to UTF-8")
        return Dataset(load_spec(folder / DESCRIPTION, folder.name), folder, split or None)
    raise CellfeatError(
        f"dataset {base!r}: not in the catalogue ({', '.join(sorted(_known()))}) and no "
        f"{_root(root) / base / DESCRIPTION}; "
        "correct the name, set CELLFEAT_DATASETS to its parent folder, or describe it (`cellfeat schema dataset`)"
    )


def _root(root: Path | None) -> Path:
    return data_root() if root is None else root


def _described(root: Path) -> dict[str, Path]:
    """The folders of the data root that describe themselves, by name in NFC, which macOS does not keep."""
    folders = [path for path in sorted(root.iterdir()) if not is_system_name(path.name)] if root.is_dir() else []
    names = {unicodedata.normalize("NFC", escaped(path.name)): path for path in folders}
    return {name: path for name, path in names.items() if (path / DESCRIPTION).exists()}


@cache
def _say(text: str) -> None:
    """Warn once."""
    log.warning(text)


def _known() -> set[str]:
    return {entry.name.removesuffix(".yaml") for entry in _entries().iterdir() if entry.name.endswith(".yaml")}


def _entries() -> Any:  # importlib's Traversable has moved between Python versions
    return files("cellfeat.data") / "datasets"
