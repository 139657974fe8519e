"""Writes synthetic sites to disk as dataset folders that describe themselves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from pycocotools import mask as rle

from cellfeat.core.files import atomic_path, digest, read_json, write_json, write_text
from cellfeat.core.progress import Progress
from cellfeat.core.version import __version__
from cellfeat.data.synthetic.recipes import RECIPES
from cellfeat.data.synthetic.scene import draw_cell_image
from cellfeat.data.synthetic.sites import SITES, Site
from cellfeat.errors import CellfeatError

IMAGES, LABELS, COCO, DESCRIPTION = "images", "labels.csv", "coco.json", "dataset.yaml"
CATEGORIES = [{"id": 1, "name": "WBC"}]


def write_sites(root: Path, images_per_site: int, seed: int = 0, sites: Sequence[Site] = SITES) -> list[str]:
    """Draw synthetic sites and write each as the folder `<root>/<site>`.

    A folder holds `images/NNNN.png` or `.jpg`, `labels.csv` (file, class), `coco.json` (exact masks of every white cell
    as compressed RLE, one category "WBC") and `dataset.yaml`; file names are relative to `images`. The classes are
    balanced, and the same arguments give the same bytes (with the same numpy and OpenCV).

    `dataset.yaml` is written last: a site that has one, made from the same arguments, is left as it is, so that a run
    which was stopped goes on with the site it was at when started again.

    Args:
        root: Folder of the datasets.
        images_per_site: Number of images, at least 1.
        seed: Seed of everything that is drawn.
        sites: The laboratories.

    Returns:
        Names of the datasets, in the order of `sites`.

    Raises:
        CellfeatError: `images_per_site` is below 1, or a folder holds something else than a synthetic site; then
            nothing is written.
    """
    if images_per_site < 1:
        raise CellfeatError(f"images_per_site is {images_per_site}; give at least 1")
    for site in sites:
        _check_owner(Path(root) / site.name, site)
    for index, site in enumerate(sites):
        folder = Path(root) / site.name
        # What the pictures depend on; a folder with the same facts need not be made again.
        info = {
            "description": _title(site),
            "version": __version__,
            "seed": seed,
            "images": images_per_site,
            "site": digest([index, asdict(site)]),
        }
        if not _is_whole(folder, info):
            _write_site(folder, site, index, info)
    return [site.name for site in sites]


def _check_owner(folder: Path, site: Site) -> None:
    """Refuse a folder that holds anything and is not of this site, also one that was begun: coco.json claims it."""
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        content = read_json(folder / COCO) if (folder / COCO).exists() else {}
        info = content.get("info") if isinstance(content, dict) else None
        if not isinstance(info, dict) or info.get("description") != _title(site):
            raise CellfeatError(f"{folder}: holds another dataset", "choose another folder or remove this one")


def _is_whole(folder: Path, info: dict[str, Any]) -> bool:
    """Whether the site was finished with the same facts; if it was not, its description is removed."""
    if not (folder / DESCRIPTION).exists():
        return False
    coco = read_json(folder / COCO)
    if coco["info"] == info and all((folder / IMAGES / image["file_name"]).exists() for image in coco["images"]):
        return True
    (folder / DESCRIPTION).unlink()
    return False


def _write_site(folder: Path, site: Site, index: int, info: dict[str, Any]) -> None:
    seed, number = info["seed"], info["images"]
    write_json(folder / COCO, {"info": info, "images": [], "annotations": [], "categories": CATEGORIES})
    labels = _balanced_labels(number, seed, index)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for old in (folder / IMAGES).glob(f"[0-9][0-9][0-9][0-9]*{site.suffix}"):  # of a run that was longer
        old.unlink()
    for i, label in enumerate(Progress(labels, desc=site.name, unit="image")):
        rgb, masks = draw_cell_image(site, label, np.random.default_rng([seed, index, i]))
        name = f"{i:04d}{site.suffix}"
        _write_image(folder / IMAGES / name, rgb, site.jpeg_quality)
        images.append({"id": i + 1, "file_name": name, "height": site.height, "width": site.width})
        for mask in masks:
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, **_annotation(mask)})
    write_json(folder / COCO, {"info": info, "images": images, "annotations": annotations, "categories": CATEGORIES})
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file", "class"])
    rows.writerows((image["file_name"], label) for image, label in zip(images, labels))
    write_text(folder / LABELS, table.getvalue())
    write_text(folder / DESCRIPTION, yaml.safe_dump(_description(site), sort_keys=False))


def _title(site: Site) -> str:
    return f"Synthetic blood smears, {site.name}"


def _balanced_labels(number: int, seed: int, site_index: int) -> list[str]:
    """One label an image: every run of 13 images holds each class once, shuffled so that the number tells nothing."""
    rng = np.random.default_rng([seed, site_index])
    runs = [rng.permutation(list(RECIPES)) for _ in range(-(-number // len(RECIPES)))]
    return [str(label) for label in np.concatenate(runs)[:number]]


def _annotation(mask: np.ndarray) -> dict[str, Any]:
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "category_id": 1,
        "bbox": [float(v) for v in rle.toBbox(encoded)],
        "area": int(rle.area(encoded)),
        "segmentation": {"size": [int(v) for v in encoded["size"]], "counts": encoded["counts"].decode("ascii")},
        "iscrowd": 0,
    }


def _write_image(path: Path, rgb: np.ndarray, jpeg_quality: int) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if path.suffix == ".jpg" else []  # OpenCV 5 warns elsewhere
    _, data = cv2.imencode(path.suffix, rgb[..., ::-1], options)
    with atomic_path(path) as partial:
        partial.write_bytes(data.tobytes())


def _description(site: Site) -> dict[str, Any]:
    """The dataset description of a site, in the catalogue's terms; paths are relative to the dataset's folder."""
    return {
        "name": site.name,
        "title": _title(site),
        "domain": site.name,
        "images": IMAGES,
        "pattern": f"*{site.suffix}",
        "labels": {
            "kind": "csv",
            "file": LABELS,
            "file_column": "file",
            "code_column": "class",
            "vocabulary": "harmonised",
        },
        "coco": COCO,
        "um_per_px": site.um_per_px,
        "licence": "CC0-1.0",
        "citation": f"Drawn by cellfeat {__version__}; no patient's blood is shown.",
    }
