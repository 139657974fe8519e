"""A dataset.yaml and a codes.csv for a folder of images, from what lies in it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from cellfeat.core.files import write_text
from cellfeat.data.catalogue import DESCRIPTION
from cellfeat.data.dataset import Dataset
from cellfeat.data.describe import Description, describe_folder
from cellfeat.data.spec import DatasetSpec, load_spec, parse_spec
from cellfeat.data.vocabulary import code_parts, load_vocabulary
from cellfeat.errors import CellfeatError

CODES = "codes.csv"
ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "label", "json", "xml")
ANNOTATION_FILES = frozenset({".json", ".geojson", ".xml", ".csv", ".tsv"})

HEAD = "# Written by `cellfeat init` from what the folder holds. `cellfeat schema dataset` lists all keys.\n"
DOMAIN = "domain: {} # images of one domain share laboratory, stain and microscope\n"
SCALE = "# um_per_px: 0.1 # micrometres a pixel, if you know them: cells are then found at one scale\n"
CODES_HEAD = """\
# What each code of the labels means: one of the 13 classes (`cellfeat schema dataset`), `unlabelled`, or `drop`, which
# leaves its images out.
"""


def init_dataset(folder: Path) -> tuple[Dataset, list[str]]:
    """Describe a folder of images: write its dataset.yaml, and codes.csv where there are labels.

    A codes.csv that is there is used as it is.

    Returns:
        The dataset, and what was found: lines for people.

    Raises:
        CellfeatError: No folder or no images, a folder that is described already, or a name that no dataset can have.
    """
    if not folder.is_dir():
        raise CellfeatError(f"{folder}: no such folder", "name a folder of images")
    if (folder / DESCRIPTION).exists():
        raise CellfeatError(f"{folder / DESCRIPTION}: exists", "edit it, or remove it to have it written again")
    found = describe_folder(folder)
    name = Path(os.path.abspath(folder)).name
    keys = found.as_yaml(CODES)
    spec = parse_spec(yaml.safe_dump(keys), str(folder / DESCRIPTION), name)
    if "masks" not in keys and (path := _annotations(found, folder, spec)):
        keys["annotations"] = path
    if found.labels:
        _write_codes(found, folder / CODES)
    write_text(folder / DESCRIPTION, _as_text(keys, name))
    return Dataset(load_spec(folder / DESCRIPTION, name), folder), found.remarks


def _as_text(keys: dict, name: str) -> str:
    domain = DOMAIN.format(yaml.safe_dump(name, allow_unicode=True).splitlines()[0])
    rest = {**{key: keys[key] for key in sorted(keys)}, "licence": "not stated", "citation": "not stated"}
    return HEAD + domain + yaml.safe_dump(rest, sort_keys=False, allow_unicode=True) + SCALE


def _write_codes(found: Description, path: Path) -> None:
    if path.exists():
        load_vocabulary(path)  # a faulty one is said before anything is written
        found.remarks.append(f"{CODES} is there and is used")
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["code", "class", "note"])
    meanings = {code: found.meaning(code) for code in _single_codes(found)}
    for code, meaning in meanings.items():
        count = found.codes[code]
        writer.writerow([code, meaning, f"{count} images" if count else ""])
    write_text(path, CODES_HEAD + text.getvalue())
    unclear = sum(meaning == "unlabelled" for meaning in meanings.values())
    found.remarks.append(f"{CODES}: {len(meanings)} codes" + (f", {unclear} of them to complete" if unclear else ""))


def _single_codes(found: Description) -> list[str]:
    """The codes, without those that name several cells of one picture: a vocabulary takes these apart itself."""
    singles: dict[str, str] = {}
    for code in sorted(found.codes):
        parts = [part.strip() for part in code_parts(code)]
        known = len(parts) > 1 and found.vocabulary is not None and not found.vocabulary.unknown(parts)
        for one in parts if known else [code]:
            singles.setdefault("".join(one.split()), one)  # white space does not count in vocabularies
    return list(singles.values())


def _annotations(found: Description, folder: Path, spec: DatasetSpec) -> str | None:
    """The annotations of label tools that the readers can use, as a path below the folder."""
    for path in _candidates(folder):
        name = path.relative_to(folder).as_posix()
        try:
            keys = spec.model_dump(exclude_defaults=True) | {"annotations": name}
            summary = Dataset(DatasetSpec(**keys), folder).summary()
        except CellfeatError as error:
            if path.suffix.lower() not in (".csv", ".tsv"):  # a table may be anything
                found.remarks.append(f"{name} is not used as annotations: {error}")
            continue
        if summary.cells:
            found.remarks.append(f"annotations in {name}: {summary.cells} cells in {summary.annotated} images")
            return name
    return None


def _candidates(folder: Path) -> Iterator[Path]:
    entries = sorted(folder.iterdir())
    yield from (path for path in entries if path.is_dir() and path.name.lower() in ANNOTATION_FOLDERS)
    yield from (path for path in entries if path.suffix.lower() in ANNOTATION_FILES and path.is_file())
