"""A store of centre crops of single-cell pictures, without a detector: for self-supervision and for quick comparisons.

    python benchmarks/centre_store.py STORE --set acevedo-20 FOLDER --set marrow-munich FOLDER [--leave-out FOLDER]

Each picture gives one cell: a square of fixed side around its centre (SETS), brought to 96 px. The features are zeros.
A picture of the examination part (see `of_examination`) is never taken, nor one that is byte for byte in a folder that
is left out. `--masks` outlines the cell by GrabCut; without it every mask is full.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from cellfeat.core.files import sha256_file
from cellfeat.data.images import read_rgb
from cellfeat.data.listing import find_images
from cellfeat.data.vocabulary import load_vocabulary
from cellfeat.store import CellRow, ImageResult, StoreWriter

SIZE = 96  # px of a crop


class Source(NamedTuple):
    """A set of single-cell pictures.

    Attributes:
        side: Of the square around the centre, px; a cell fills about three quarters of it.
        vocabulary: Of its codes, which the file names begin with.
        by_patient: Whether a folder `Patient_NN` says whose cell it is.
        only: What the names of the files begin with that belong to the set; the others are copies of other sets.
    """

    side: int
    vocabulary: str
    by_patient: bool = False
    only: tuple[str, ...] = ("",)


SETS = {
    "acevedo-20": Source(200, "acevedo-20"),  # 20 µm
    "pbc-barcelona": Source(200, "acevedo-20"),
    "marrow-munich": Source(220, "marrow-munich"),
    "matek-19": Source(250, "matek-19", only=("MYO_", "NGS_")),  # 18 µm
    "matek-21": Source(220, "marrow-munich"),
    "apl-hopkins": Source(200, "apl-hopkins", by_patient=True),
    "sidhom-21": Source(200, "apl-hopkins", by_patient=True),
}


def of_examination(key: str) -> bool:
    """Whether a picture belongs to the three tenths from which nobody may learn.

    Args:
        key: Its file name, or the folder of its patient where patients are known.
    """
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 10 < 3


def pictures(name: str, folder: Path, left_out: set[str]) -> Iterator[tuple[str, Path, str, str]]:
    """(key below the folder, file, code, patient) of each picture that may be used, sorted."""
    source = SETS[name]
    for key, path in find_images(folder).files.items():
        if not path.name.startswith(source.only):
            continue
        patient = next((part for part in Path(key).parts if part.startswith("Patient_")), "")
        if source.by_patient and not patient:
            raise SystemExit(f"{path}: lies in no folder Patient_NN")
        if of_examination(patient if source.by_patient else path.name) or sha256_file(path) in left_out:
            continue
        yield key, path, path.name.split("_")[0], patient


def contents(folders: list[Path]) -> set[str]:
    """Digests of all pictures below some folders."""
    return {sha256_file(path) for folder in folders for path in find_images(folder).files.values()}


def centre(image: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The crop (SIZE, SIZE, 3) around the picture's centre and its box (4,) XYXY, px."""
    height, width = image.shape[:2]
    side = min(side, height, width)
    x, y = (width - side) // 2, (height - side) // 2
    crop = cv2.resize(image[y : y + side, x : x + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return crop, np.array([x, y, x + side, y + side], np.float32)


def outline(crop: np.ndarray) -> np.ndarray:
    """The cell in the centre of a crop (S, S, 3), as (S, S) 0/1: its nucleus by Otsu's threshold, then GrabCut."""
    side = len(crop)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    distance = np.hypot(x, y) / side
    green = cv2.GaussianBlur(crop[..., 1], (0, 0), side / 96)
    threshold, _ = cv2.threshold(green[distance < 0.45], 0, 255, cv2.THRESH_OTSU)
    nucleus = near_centre((green <= threshold) & (distance < 0.46), distance < 0.25)
    if nucleus.sum() < 0.01 * side**2:
        return (distance < 0.38).astype(np.uint8)
    hull = np.zeros((side, side), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.argwhere(nucleus)[:, ::-1].astype(np.int32)), 1)
    away = cv2.distanceTransform(1 - hull, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / side
    guess = np.full((side, side), cv2.GC_BGD, np.uint8)
    guess[(away < 0.25) & (distance < 0.49)] = cv2.GC_PR_BGD
    guess[(away < 0.094) & (distance < 0.49)] = cv2.GC_PR_FGD
    guess[nucleus] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(crop[..., ::-1]), guess, None, *models, 3, cv2.GC_INIT_WITH_MASK)
    cell = np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    width = round(0.094 * side)  # edges of red cells are no wider, and are cut off
    cell = (
        cv2.morphologyEx(cell, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))) | nucleus
    )
    outlines, _ = cv2.findContours(
        near_centre(cell > 0, nucleus).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return cv2.drawContours(np.zeros_like(hull), outlines, -1, 1, cv2.FILLED)


def near_centre(region: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The parts of a region (h, w) bool that reach into `centre` (h, w) bool."""
    count, parts = cv2.connectedComponents(region.astype(np.uint8))
    inside = np.bincount(parts[centre & region], minlength=count)
    return np.isin(parts, np.flatnonzero(inside)) & region


def main() -> None:
    """Write the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--set", nargs=2, action="append", required=True, metavar=("NAME", "FOLDER"), dest="sets")
    parser.add_argument("--leave-out", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--masks", action="store_true")
    given = parser.parse_args()
    left_out = contents(given.leave_out)
    provenance = {"made_by": "centre_store", "sets": sorted(name for name, _ in given.sets), "masks": given.masks}
    provenance["crop"] = {"margin": 0.0}  # the box is the crop
    with StoreWriter(given.store, (1, 1, 1), SIZE, provenance, shard_cells=4000) as writer:
        for name, folder in given.sets:
            taken = list(pictures(name, Path(folder), left_out))
            labels = load_vocabulary(SETS[name].vocabulary).translate(code for _, _, code, _ in taken)
            for (key, path, _, patient), label in zip(tqdm(taken, desc=name), labels):
                image_id = f"{name}/{key}"
                if label is None or image_id in writer.done:  # dropped by the vocabulary: platelets
                    continue
                image = read_rgb(path)
                crop, box = centre(image, SETS[name].side)
                mask = outline(crop) if given.masks else np.ones((SIZE, SIZE), np.uint8)
                cell = CellRow(np.zeros((1, 1, 1), np.float32), crop, mask, box, 1.0, label)
                group = {"group": patient} if patient else {}
                height, width = image.shape[:2]
                writer.add(ImageResult(image_id, name, label, width, height, "", [cell], group))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    main()
