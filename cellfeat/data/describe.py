"""What a folder of images is, as far as its names and tables tell: where the images are, their masks and their labels.

Nothing is guessed that could label or lose an image wrongly: class names count where a vocabulary of the package knows
most of them and leaves none of them out. What is only likely is a remark, and `cellfeat init` writes it down to be
completed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cellfeat.core.text import printable
from cellfeat.data.file_names import FileNames
from cellfeat.data.listing import SYSTEM, Listing, find_images
from cellfeat.data.tables import Table, read_table
from cellfeat.data.vocabulary import Vocabulary, load_vocabulary, vocabulary_names
from cellfeat.errors import CellfeatError

# Names in lower case, spaces and underscores removed.
MASK_FOLDERS = frozenset({"mask", "masks", "groundtruth", "gt", "segmentation", "segmentations", "labels"})
SURELY_MASKS = frozenset({"mask", "masks", "groundtruth"})  # whatever the names in them
MASK_ENDINGS = ("", "_mask", "-mask", "_masks", "_label", "_labels", "_seg", "_gt", "_cp_masks")
FILE_COLUMNS = frozenset({"file", "filename", "image", "imageid", "imagename", "path", "imagepath", "name", "id"})
CODE_COLUMNS = frozenset({"class", "label", "code", "celltype", "category", "cellclass", "type"})
GROUP_COLUMNS = ("patient", "patientid", "subject", "subjectid", "donor", "case", "caseid", "group")
TABLES = frozenset({".csv", ".tsv"})
OWN_TABLES = frozenset({"codes.csv", "classes.csv"})
DIGITS = "0123456789"
LOOKED_AT = 500  # rows of a table that tell what its columns are


@dataclass
class Description:
    """What is known of a folder of images.

    Attributes:
        folder: The folder.
        listing: Its images.
        keys: Of its dataset.yaml, without labels.
        labels: The key `labels` without the vocabulary; {} where nothing looks like labels.
        codes: Label code to the number of its images.
        file_column: Column of the table that names the images.
        vocabulary: The vocabulary of the package that knows the codes; None where it is not clear.
        remarks: What was found, and what was found and is not used; lines for people.
    """

    folder: Path
    listing: Listing
    keys: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=Counter)
    file_column: str = "file"
    vocabulary: Vocabulary | None = None
    remarks: list[str] = field(default_factory=list)

    def as_yaml(self, vocabulary: str | None = None) -> dict[str, Any]:
        """The keys of a dataset.yaml.

        Args:
            vocabulary: Of the labels; None: the one that was found, and no labels where none was.
        """
        vocabulary = vocabulary or (self.vocabulary.name if self.vocabulary else None)
        labels = {**self.labels, "vocabulary": vocabulary} if self.labels and vocabulary else {}
        if "table" in self.keys:
            labels.setdefault("file_column", self.file_column)
        return {**self.keys, **({"labels": labels} if labels else {})}

    def meaning(self, code: str) -> str:
        """The class of a code where it is clear, else "unlabelled"."""
        known = self.vocabulary or best_vocabulary([code])
        return (known.translate([code])[0] if known else "") or "unlabelled"


def describe_folder(folder: Path) -> Description:
    """Find out what a folder of images is.

    Raises:
        CellfeatError: It holds no image that is read.
    """
    found = Description(folder, find_images(folder))
    if not found.listing.files:
        left = [f"{len(names)} {why}" for why, names in found.listing.left_out.items() if why != SYSTEM]
        raise CellfeatError(f"{folder}: holds no image that is read{''.join(f'; {one}' for one in left)}")
    _find_masks(found)
    _find_image_root(found)
    _find_table(found)
    if found.vocabulary is None:
        _find_class_folders(found)
    return found


def _find_masks(found: Description) -> None:
    """Masks in a folder of their own, or beside the images; they are no images."""
    files = found.listing.files
    for folder in sorted({key.split("/")[0] for key in files if "/" in key}):
        if _plain(folder) in MASK_FOLDERS:
            masks = [key for key in files if key.startswith(f"{folder}/")]
            name = _mask_name({PurePosixPath(key).stem for key in files if key not in set(masks)}, masks)
            if name or (_plain(folder) in SURELY_MASKS and len(masks) < len(files)):
                return _use_masks(found, masks, folder, name, f"{folder}/**")
    stems = {PurePosixPath(key).stem for key in files}
    for ending in MASK_ENDINGS[1:]:
        if matched := _masks_of(stems, list(files), ending):
            name = f"{{stem}}{ending}{PurePosixPath(matched[0]).suffix}"
            return _use_masks(found, matched, ".", name, f"**/*{ending}.*")
    return None


def _mask_name(stems: set[str], masks: Sequence[str]) -> str:
    """How masks are called after images of these stems, as `MaskSource.name`; "" where it is not clear."""
    suffix = PurePosixPath(masks[0]).suffix
    for ending in MASK_ENDINGS:
        if 2 * len(_masks_of(stems, masks, ending)) > len(masks):
            return f"{{stem}}{ending}{suffix}"
    begin = {PurePosixPath(key).stem.rstrip(DIGITS) for key in masks}
    numbers = {_number(stem) for stem in stems} - {""}
    if len(begin) == 1 and 2 * sum(_number(PurePosixPath(key).stem) in numbers for key in masks) > len(masks):
        return f"{begin.pop()}{{number}}{suffix}"
    return ""


def _number(stem: str) -> str:
    """The digits at the end of a name."""
    return stem[len(stem.rstrip(DIGITS)) :]


def _masks_of(stems: set[str], keys: Sequence[str], ending: str) -> list[str]:
    """Those of the files that are called as an image of these stems with the ending."""
    named = {key: PurePosixPath(key).stem for key in keys}
    return [key for key, stem in named.items() if stem.endswith(ending) and stem[: len(stem) - len(ending)] in stems]


def _use_masks(found: Description, masks: Sequence[str], folder: str, name: str, exclude: str) -> None:
    found.keys |= {"exclude": exclude} | ({"masks": {"folder": folder, "name": name}} if name else {})
    left = set(masks)
    found.listing.files = {key: path for key, path in found.listing.files.items() if key not in left}
    found.remarks.append(f"{len(masks)} masks, {PurePosixPath(folder) / (name or 'whose names match no image')}")


def _find_image_root(found: Description) -> None:
    """The folder below which all images lie, where that is one folder and no class."""
    root = PurePosixPath()
    files = found.listing.files
    while len(tops := {key.split("/")[0] if "/" in key else "" for key in files}) == 1:
        if not (top := tops.pop()) or best_vocabulary([top]):
            break
        files = {key.removeprefix(f"{top}/"): path for key, path in files.items()}
        root /= top
    if root.parts:
        found.keys["images"], found.listing.files = root.as_posix(), files
        if not found.keys.get("exclude", "**").startswith("**"):
            del found.keys["exclude"]  # the masks lie elsewhere
        elif "masks" in found.keys:
            found.keys["masks"]["folder"] = root.as_posix()


def _find_class_folders(found: Description) -> None:
    keys = [PurePosixPath(key) for key in found.listing.files]
    for level in range(max(len(key.parts) for key in keys) - 1):
        codes = Counter(key.parts[level] for key in keys if len(key.parts) > level + 1)
        if vocabulary := best_vocabulary(codes):
            if level:
                found.remarks.append(
                    f"folders that look like classes ({_some(codes)}) lie further down; they are read as labels where "
                    "the folder that holds them is named"
                )
            else:
                found.labels, found.codes, found.vocabulary = {"kind": "folder"}, codes, vocabulary
                found.remarks.append(f"labels from class folders ({_some(codes)}), vocabulary {vocabulary.name}")
                below = {key.parts[1] for key in keys if len(key.parts) > 2}
                if len(below) > 1 and "group" not in found.keys:
                    found.remarks.append(f"folders below them ({_some(below)}); {_patients(2)}")
            return
    codes = Counter(key.parts[0] for key in keys if len(key.parts) > 1)
    if len(codes) > 1 and not found.labels:
        found.labels, found.codes = {"kind": "folder"}, codes
        said = "" if "group" in found.keys else f"; {_patients(1)}"
        found.remarks.append(f"sub-folders ({_some(codes)}) that no vocabulary knows{said}")


def _patients(level: int) -> str:
    return f"if they are patients, `group: {{folder: {level}}}` in a dataset.yaml keeps each on one side of every split"


def _find_table(found: Description) -> None:
    """A table beside the images that names them."""
    names = FileNames(found.listing.files)
    for path in _tables(found.folder, str(found.keys.get("images", "."))):
        name = path.relative_to(found.folder).as_posix()
        try:
            table = read_table(path)
        except CellfeatError as error:
            found.remarks.append(f"not used: {error}")
            continue
        if (file_column := _file_column(table, names)) is None:
            continue
        keys = [key for written in table.values(file_column) if (key := names.find(written)) is not None]
        if len(set(keys)) < len(keys):
            found.remarks.append(f"{name} names images several times and is not used")
        elif "file" in found.labels or "table" in found.keys:
            found.remarks.append(f"{name} names images too and is not used")
        else:
            _use_table(found, name, table, file_column)


def _tables(folder: Path, images: str) -> list[Path]:
    return [
        path
        for place in dict.fromkeys((folder, folder / images))
        for path in sorted(place.iterdir())
        if path.suffix.lower() in TABLES and path.name.lower() not in OWN_TABLES
        if path.is_file() and not path.name.startswith(".")
    ]


def _use_table(found: Description, name: str, table: Table, file_column: str) -> None:
    values = {column: Counter(value for value in table.values(column) if value) for column in table.columns}
    others = [column for column in table.columns if column != file_column and values[column]]
    known = {column: vocabulary for column in others if (vocabulary := best_vocabulary(values[column]))}
    likely = [column for column in others if _plain(column) in CODE_COLUMNS]
    column = next(iter([*(c for c in likely if c in known), *known, *likely]), None)
    if column is not None:
        found.labels = {"kind": "csv", "file": name, "file_column": file_column, "code_column": column}
        found.codes, found.vocabulary = values[column], known.get(column)
        read = f"vocabulary {found.vocabulary.name}" if found.vocabulary else "which no vocabulary knows"
        found.remarks.append(f"labels from {name}, column {column} ({_some(found.codes)}), {read}")
    group = next((c for wanted in GROUP_COLUMNS for c in others if _plain(c) == wanted and c != column), None)
    if group is not None:
        found.keys |= {"group": group} | ({} if found.labels.get("file") == name else {"table": name})
        found.file_column = file_column
        found.remarks.append(f"patients from {name}, column {group}")


def _file_column(table: Table, names: FileNames) -> str | None:
    """The column most of whose values are names of images."""
    for column in sorted(table.columns, key=lambda one: _plain(one) not in FILE_COLUMNS):
        values = [value for value in table.values(column)[:LOOKED_AT] if value]
        if values and 2 * sum(names.find(value) is not None for value in values) > len(values):
            return column
    return None


def best_vocabulary(codes: Iterable[str]) -> Vocabulary | None:
    """The vocabulary of the package that knows most of the codes, at least half of them, and leaves none out.

    Of several the one that gives most codes a class, then the one with the fewest codes. None where two that know
    equally many give a code different classes, and for codes without letters, which may be numbers of patients.
    """
    codes = sorted({code for code in codes if code.strip()})
    if not any(letter.isalpha() for code in codes for letter in code):
        return None
    vocabularies = sorted(map(load_vocabulary, vocabulary_names()), key=lambda one: len(one.meaning))
    known = {one.name: len(codes) - len(one.unknown(codes)) for one in vocabularies if None not in one.translate(codes)}
    most = max(known.values(), default=0)
    best = [one for one in vocabularies if known.get(one.name) == most]
    meanings = [one.translate(codes) for one in best]
    contradicted = any(len(set(classes) - {""}) > 1 for classes in zip(*meanings))  # "": no class, which denies none
    if not most or 2 * most < len(codes) or contradicted:
        return None
    return max(best, key=lambda one: sum(map(bool, one.translate(codes))))


def _some(names: Iterable[str], count: int = 6) -> str:
    """The first few names, for a line."""
    listed = sorted(names)
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(printable(name) for name in listed[:count]) + more


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
