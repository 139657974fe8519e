"""Folders, files and globs as datasets: nothing has to be written or set before their images can be used."""

from __future__ import annotations

import glob
import logging
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from cellfeat.data.catalogue import DESCRIPTION, data_root, dataset_names, open_dataset
from cellfeat.data.dataset import Dataset
from cellfeat.data.describe import Description, best_vocabulary, describe_folder
from cellfeat.data.listing import SUFFIXES, escaped, find_images, is_system_name
from cellfeat.data.spec import DatasetSpec, load_spec
from cellfeat.data.urls import is_url, local_paths
from cellfeat.errors import CellfeatError

log = logging.getLogger(__name__)

MAGIC = re.compile(r"[*?\[]")


def open_paths(paths: Sequence[str], root: Path | None = None) -> list[Dataset]:
    """The datasets that paths mean, in their order.

    A folder that has a dataset.yaml is what that says. Any other folder is a dataset of its name; class folders and
    tables within it are used where they are clear, and logged. Image files are datasets of the names of their folders.

    Args:
        paths: Folders, image files, or globs of both (`**` for any folders), of this machine or by URL.
        root: The folder of the catalogue's datasets, which are known by their folders too; as `open_dataset`.

    Raises:
        CellfeatError: Nothing of such a name, a folder or file without an image that is read, two datasets of one
            name or domain, or a dataset that lies within another.
    """
    folders: list[Path] = []
    files: dict[Path, list[Path]] = {}
    others = []
    for path in dict.fromkeys(found for written in paths for found in _expand(written)):
        if path.is_dir():
            folders.append(path)
        elif path.suffix.lower() in SUFFIXES:
            files.setdefault(path.parent, []).append(path)
        else:
            others.append(path)
    if others and not folders and not files:
        known = f"images end in {' '.join(sorted(SUFFIXES))}"
        raise CellfeatError(f"{others[0]}: no folder and no image that is read", known)
    if others:
        log.warning("left out: %d files that are no images (first %s)", len(others), escaped(str(others[0])))
    datasets = [_open_folder(folder, root) for folder in folders]
    datasets += [_open_files(folder, chosen) for folder, chosen in files.items()]
    check_datasets(datasets)
    names = [one.folder.resolve().name for one in datasets]
    if len(names) > 1 and best_vocabulary(names):
        log.warning(
            "%s look like classes, and are read as sites without labels: name the folder that holds them",
            ", ".join(map(escaped, names)),
        )
    return datasets


def check_datasets(datasets: Sequence[Dataset]) -> None:
    """Refuse datasets that cannot be in one store.

    Raises:
        CellfeatError: Two have one name, so that their images would have; or the images of one lie within another's.
    """
    seen: dict[str, Dataset] = {}
    for one in datasets:
        other = seen.setdefault(one.name, one)
        if other is not one:
            raise CellfeatError(
                f"two datasets are named {one.name}: {other.folder} and {one.folder}", "rename one of the folders"
            )
    for one in datasets:
        inner = (one.folder / one.spec.images).resolve()
        for other in datasets:
            outer = (other.folder / other.spec.images).resolve()
            parts = one.split is not None and other.split is not None  # of one dataset
            if one is not other and other.chosen is None and not parts and outer in (inner, *inner.parents):
                raise CellfeatError(
                    f"{inner} lies within {outer}: its images would be counted twice", "name one of them"
                )


def dataset_name(folder: Path) -> str:
    """The name that a folder gives its dataset: its own, without the signs that names of datasets cannot have."""
    name = unicodedata.normalize("NFC", escaped(Path(os.path.abspath(folder)).name))
    name = re.sub(r"[/\\@:\x00-\x1f\x7f]", "_", name).strip()
    return re.sub(r"^\W+", "", name) or "images"


def _expand(written: str) -> list[Path]:
    if is_url(written):
        return local_paths(written)
    path = Path(written)
    if path.exists():
        return [path]
    if MAGIC.search(written):
        found = [Path(name) for name in sorted(glob.glob(written, recursive=True))]
        if found := [path for path in found if not is_system_name(path.name)]:
            return found
    raise CellfeatError(f"{written}: no such file or folder", "name a folder of images, images, or a glob of them")


def _open_folder(folder: Path, root: Path | None) -> Dataset:
    catalogue = data_root() if root is None else root
    if folder.resolve().parent == catalogue.resolve() and folder.name in dataset_names(catalogue):
        return open_dataset(folder.name, catalogue)
    if (folder / DESCRIPTION).exists():
        return Dataset(load_spec(folder / DESCRIPTION, Path(os.path.abspath(folder)).name), folder)
    found = describe_folder(folder)
    name = dataset_name(folder)
    for remark in found.remarks:
        log.info("%s: %s", name, remark)
    if found.labels and not found.vocabulary:
        log.info("%s: no labels are used; `cellfeat init %s` writes a codes.csv to complete", name, folder)
    return Dataset(spec_of(found, name), folder)


def spec_of(found: Description, name: str, vocabulary: str | None = None) -> DatasetSpec:
    """The checked description of a folder; `vocabulary` as in `Description.as_yaml`."""
    return DatasetSpec(**{"name": name, "domain": name, **found.as_yaml(vocabulary)})


def _open_files(folder: Path, files: Sequence[Path]) -> Dataset:
    listing = find_images(folder, "*")
    for file in files:
        if file.name not in listing.files:
            reasons = [why for why, names in listing.left_out.items() if escaped(file.name) in names]
            raise CellfeatError(f"{file}: {reasons[0] if reasons else 'no image that is read'}")
    name = dataset_name(folder)
    return Dataset(
        DatasetSpec(name=name, domain=name, pattern="*"), folder, chosen=frozenset(file.name for file in files)
    )
