"""From the original downloads of public datasets to what the catalogue's entries expect.

No image is copied: `<data root>/<name>/original` becomes a link to the download, beside it a label table and, where the
set has masks or boxes, a COCO JSON file. Each function ends by opening the dataset as the catalogue does.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cellfeat.core.files import read_json, write_json, write_text
from cellfeat.core.text import printable, read_text
from cellfeat.data.catalogue import data_root, open_dataset
from cellfeat.data.dataset import counted
from cellfeat.data.listing import find_images, is_system_name
from cellfeat.data.masks import CATEGORIES, MaskItem, box_annotation, image_entry, masks_to_coco
from cellfeat.data.tables import Table, read_table
from cellfeat.errors import CellfeatError

GIVE_DOWNLOAD = "give the folder of the unpacked download, as it was packed"
RAABIN_NO_CELL = frozenset({"Artifact"})
SIDHOM_PATTERN = "**/Signed slides/*/*.jpg"
SIDHOM_PREFIXES = {
    "Arifact": "ART",
    "Band neutrophils": "BNE",
    "Basophil": "BA",
    "Blast, no lineage spec": "BL",
    "Eosinophils": "EO",
    "Erythroblast": "ERB",
    "Giant thrombocyte": "GT",
    "Lymphocyte": "LY",
    "Lymphocyte, variant": "VLY",
    "Metamyelocyte": "MMY",
    "Monocyte": "MO",
    "Myelocyte": "MY",
    "Plasma cells": "PC",
    "Prolymphocyte": "PLY",
    "Promonocyte": "PMO",
    "Promyelocyte": "PMY",
    "Segmented neutrophils": "SNE",
    "Smudge cells": "SMU",
    "Thrombocyte aggregation": "ERC",
    "Unidentified": "UI",
}
"""What the names of the files in a class folder of Sidhom-21 begin with, as its slide scanner abbreviates the class."""


def prepare_matek19(download: Path, root: Path) -> list[str]:
    """Matek-19 (AML-Cytomorphology_LMU): folders of TIFF files named after the codes.

    The label is the first annotation in annotations.dat where that file is there, else the folder.

    Returns:
        One summary line for each dataset written, like all functions here.
    """
    images = find_folder(download, "LYT")
    codes = {key: path.parent.name for key, path in find_images(images, "*/*.tiff").files.items()}
    for table in _below(download, "annotations.dat"):
        words = (line.split() for line in read_text(table).split("\n"))
        codes.update({line[0]: line[1] for line in words if len(line) >= 2 and line[0] in codes})
    return [_finish("matek-19", root, images, codes)]


def prepare_acevedo20(download: Path, root: Path) -> list[str]:
    """Acevedo-20 (PBC_dataset_normal_DIB): eight folders; the prefix of the file name is the code."""
    images = find_folder(download, "erythroblast")
    codes = {key: path.name.partition("_")[0] for key, path in find_images(images, "*/*.jpg").files.items()}
    return [_finish("acevedo-20", root, images, codes)]


def prepare_matek21(download: Path, root: Path) -> list[str]:
    """Matek-21 (Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer): folders named after the codes."""
    return [_finish("matek-21", root, find_folder(download, "NGS"), None)]


def prepare_sidhom21(download: Path, root: Path) -> list[str]:
    """Sidhom-21 (DeepAPL): `Patient_NN/.../Signed slides/<class>/<PREFIX>_N.jpg`; the prefix is the code.

    A file whose prefix is that of another class has no label: some lie in the wrong folder or carry the wrong name.
    """
    images = find_folder(download, "Patient_*")
    found = find_images(images, SIDHOM_PATTERN).files
    prefixes = {key: path.name.partition("_")[0] for key, path in found.items()}
    codes = {key: code for key, code in prefixes.items() if code == SIDHOM_PREFIXES.get(found[key].parent.name)}
    return [_finish("sidhom-21", root, images, codes)]


def prepare_segmentation_wbc(download: Path, root: Path) -> list[str]:
    """segmentation_WBC: `Dataset n/NNN.bmp` with masks `NNN.png` beside them and `Class Labels of Dataset n.csv`."""
    base = find_folder(download, "Dataset 1")
    summaries = []
    for number in (1, 2):
        images = base / f"Dataset {number}"
        codes = _codes_by_number(read_table(base / f"Class Labels of Dataset {number}.csv"))
        masks = {path.stem: path for path in find_images(images, "*.png").files.values()}
        pairs = {key: masks.get(path.stem) for key, path in find_images(images, "*.bmp").files.items()}
        name = f"segmentation-wbc-{number}"
        summaries.append(_finish(name, root, images, codes, _coco(name, images, pairs, threshold=64)))
    return summaries


def _codes_by_number(table: Table) -> dict[str, str]:
    """Codes of images that are named by number: 1, 001, 1.0 (as Excel saves it) and 001.bmp are the same."""
    if len(table.columns) < 2:
        raise CellfeatError(f"{table.source}: needs two columns, image ID and class label")
    codes = {}
    for row, line in zip(table.rows, table.lines):
        named = row[table.columns[0]]
        match = re.fullmatch(r"(\d{1,6})(\.0*|\.bmp)?", named, re.IGNORECASE)
        if not match:
            raise CellfeatError(f"{table.source}, line {line}: image ID {named!r} is no number", "correct it")
        codes[f"{int(match[1]):03d}.bmp"] = row[table.columns[1]].removesuffix(".0")
    return codes


def prepare_bccd(download: Path, root: Path) -> list[str]:
    """BCCD masks of Banik et al.: `Input/BCCD/BloodImage_N.jpg` and `Ground Truth/BCCD/BloodImage_Mask_N.png`."""
    base = find_folder(download, "Ground Truth")
    images, masks = base / "Input" / "BCCD", base / "Ground Truth" / "BCCD"
    by_number = {_number(path): path for path in find_images(masks, "BloodImage_Mask_*.png").files.values()}
    pairs = {key: by_number.get(_number(path)) for key, path in find_images(images, "BloodImage_*.jpg").files.items()}
    return [_finish("bccd", root, images, None, _coco("bccd", images, pairs, threshold=77, min_area=501))]


def _number(path: Path) -> str:
    """What follows the last underscore of a name."""
    return path.stem.rpartition("_")[2]


def prepare_raabin(download: Path, root: Path) -> list[str]:
    """Raabin-WBC: cells with masks (`GrTh`), fields with boxes (`<slide>/images` and `<slide>/jsons`), or both."""
    summaries = []
    if _below(download, "GrTh") or download.name == "GrTh":
        summaries.append(_raabin_cells(find_folder(download, "Ground Truth"), root))
    if _below(download, "jsons"):
        summaries.append(_raabin_fields(download, root))
    if not summaries:
        raise CellfeatError(f"{download}: neither a folder GrTh nor a folder jsons below it", GIVE_DOWNLOAD)
    return summaries


def _raabin_cells(base: Path, root: Path) -> str:
    """`Original/<class>/*` with masks `Ground Truth/<class>/*`: grey 100 nucleus, 255 cytoplasm, 0 background."""
    images = base / "Original"
    found, truths = (find_images(folder, "*/*").files for folder in (images, base / "Ground Truth"))
    masks = {(path.parent.name, path.stem): path for path in truths.values()}
    pairs = {key: masks.get((path.parent.name, path.stem)) for key, path in found.items()}
    codes = {key: path.parent.name for key, path in found.items()}
    return _finish("raabin-wbc", root, images, codes, _coco("raabin-wbc", images, pairs, threshold=50))


def _raabin_fields(download: Path, root: Path) -> str:
    """One JSON a field: `Cell_0`, `Cell_1`, ... with x1, y1, x2, y2 in px and two labels; artefacts are left out."""
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
    for path in [path for folder in _below(download, "jsons") for path in sorted(folder.glob("*.json"))]:
        if is_system_name(path.name):
            continue
        images = path.parent.parent / "images"
        fields = {field.stem: field for field in find_images(images, "*").files.values()} if images.is_dir() else {}
        if path.stem not in fields:
            raise CellfeatError(f"{path}: no image of that name in {images}; complete the download")
        field = fields[path.stem]
        file_name = field.relative_to(download).as_posix()
        entry = image_entry(len(coco["images"]) + 1, f"raabin-wbc-fields/{file_name}", field, file_name)
        coco["images"].append(entry)
        for what, cell in _raabin_boxes(path):
            box = _box_inside(cell, entry, what)
            coco["annotations"].append(box_annotation(len(coco["annotations"]) + 1, entry["id"], box))
    return _finish("raabin-wbc-fields", root, download, None, coco)


def _raabin_boxes(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """File and number of each cell of a field, and its x1, x2, y1, y2 in px."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise CellfeatError(f"{path}: not a JSON object of cells", "download it again")
    for key, cell in content.items():
        if not key.startswith("Cell_"):
            continue
        what = f"{path}: {key}"
        if not isinstance(cell, dict):
            raise CellfeatError(f"{what} is {cell!r}, not an object of x1, y1, x2, y2 and labels", "download it again")
        if RAABIN_NO_CELL & {str(cell.get("Label1")), str(cell.get("Label2"))}:
            continue
        yield what, {side: _pixels(cell.get(side), f"{what}.{side}") for side in ("x1", "x2", "y1", "y2")}


def _pixels(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise CellfeatError(f"{what} is {printable(repr(value))}, not a number of pixels", "download it again")
    return number


def _box_inside(cell: dict[str, float], entry: dict[str, Any], what: str) -> tuple[float, float, float, float]:
    x0, x1 = sorted(min(max(cell[key], 0.0), entry["width"]) for key in ("x1", "x2"))
    y0, y1 = sorted(min(max(cell[key], 0.0), entry["height"]) for key in ("y1", "y2"))
    if x0 == x1 or y0 == y1:
        raise CellfeatError(f"{what} lies outside its image; are the boxes given for a turned image?")
    return x0, y0, x1, y1


def find_folder(download: Path, marker: str) -> Path:
    """The folder nearest to `download`, itself included, that holds an entry named `marker`, which may have a `*`.

    Raises:
        CellfeatError: `download` is no folder, or there is none such below it.
    """
    if not download.is_dir():
        raise CellfeatError(f"{download}: no such folder; give the folder of the unpacked download")
    if any(download.glob(marker)):
        return download
    found = sorted((path.parent for path in _below(download, marker)), key=lambda path: len(path.parts))
    if not found:
        raise CellfeatError(f"{download}: no {marker!r} below it; is this the right download?", GIVE_DOWNLOAD)
    return found[0]


def _below(download: Path, name: str) -> list[Path]:
    """Files and folders of this name, but not those of __MACOSX and the like."""
    found = sorted(download.rglob(name))
    return [path for path in found if not any(map(is_system_name, path.relative_to(download).parts))]


def _coco(name: str, images: Path, pairs: Mapping[str, Path | None], **limits: int) -> dict[str, Any]:
    """COCO of the images that have a mask, with file names relative to the image root."""
    items = [
        MaskItem(f"{name}/{key}", images / key, mask, file_name=key) for key, mask in pairs.items() if mask is not None
    ]
    return masks_to_coco(items, **limits, kind="foreground")


def _finish(
    name: str, root: Path, images: Path, codes: dict[str, str] | None, coco: dict[str, Any] | None = None
) -> str:
    """Write what the catalogue's entry expects, open the dataset, and say in one line what is there."""
    folder = root / name
    _link(folder / "original", images)
    if codes is not None:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerows([("file", "class"), *sorted(codes.items())])
        write_text(folder / "labels.csv", table.getvalue())
    if coco is not None:
        write_json(folder / "coco.json", coco)
    dataset = open_dataset(name, root)
    records = dataset.records()
    labelled = Counter(record.label for record in records if record.label)
    cells = f", {len(dataset.coco()['annotations'])} reference cells" if coco is not None else ""
    dropped = "".join(f", {count} {code} dropped" for code, count in dataset.dropped.items())
    said = "".join(f"; {one}" for one in counted(dataset.left_out))
    return (
        f"{name}: {len(records)} images, {labelled.total()} labelled in {len(labelled)} classes{cells}{dropped}{said}"
    )


def _link(link: Path, images: Path) -> None:
    """Make `link` point at the folder of images, unless it is that folder already."""
    if link.exists() and link.resolve() == images.resolve():
        return
    if os.path.lexists(link):
        raise CellfeatError(f"{link}: is there already and is not {images}; remove it or choose another --output")
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(images.resolve(), target_is_directory=True)
    except OSError as error:
        raise CellfeatError(f"{link}: cannot link to {images} ({error}); move that folder there by hand") from None


def run_script(prepare: Callable[[Path, Path], list[str]], description: str | None) -> int:
    """The command line of a prepare script; returns its exit status."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("download", type=Path, metavar="DOWNLOAD_DIR", help="folder of the unpacked download")
    parser.add_argument("--output", type=Path, default=data_root(), help="data root to write to (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        for line in prepare(arguments.download, arguments.output):
            print(line)
    except CellfeatError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
