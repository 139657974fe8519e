"""The pictures that the built-in detector learned from, beside BCCD's: synthetic smears and real single-cell pictures.

    python benchmarks/detector_training_set.py DATA_ROOT --set acevedo-20 FOLDER --set matek-19 FOLDER
        [--boxes FOLDER] [--leave-out FOLDER] [--red-cells FOLDER] [--synthetic 2500] [--real 2500] [--fields 1600]

Writes six datasets of 256 px squares below DATA_ROOT. `builtin-synthetic`: laboratories that there are not, any scale.
`builtin-real`: single-cell pictures outlined by GrabCut, as close views and as mosaics of up to 16; pictures whose
outline is doubtful and those of the examination part are left out. `--boxes` names the folder of YOLO labels of some of
the pictures: their cells are outlined within the box, and an outline that does not fill it is doubtful.
`builtin-synthetic-empty`, `builtin-real-empty`: red cells without a white one. `builtin-fields`: the outlined cells on
real fields of red cells (`--red-cells`), `builtin-fields-empty`: such fields alone. Run again, it goes on with what is
missing.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from centre_store import SETS, contents, near_centre, of_examination, outline
from red_cell_fields import RATIO, SIDE, RedCellFields, defocus, put_cell
from tqdm import tqdm

from cellfeat.core.files import atomic_path, read_json, sha256_file, write_json, write_text
from cellfeat.data.annotations.geometry import encode
from cellfeat.data.images import read_rgb
from cellfeat.data.listing import find_images
from cellfeat.data.masks import CATEGORIES, annotation
from cellfeat.data.synthetic import draw_field, random_site
from cellfeat.data.synthetic.recipes import RECIPES

CELL_UM = 12.0  # a usual diameter
CELL_PX = (18, 190)  # that a cell has in the synthetic pictures
SMALLEST = 60  # px of a mask: less is a rim that nobody could call a cell
PART = 200  # pictures between two savings
POOL = 3000  # outlined cells that the pictures are made of: GrabCut takes most of the time
Picture = tuple[np.ndarray, list[np.ndarray]]
"""A picture (h, w, 3) uint8 RGB and the masks (h, w) 0/1 of its cells."""


def synthetic(rng: np.random.Generator) -> Picture:
    """A field of a random laboratory; one in twelve without a cell."""
    px = np.exp(rng.uniform(*np.log(CELL_PX)))
    site = random_site(SIDE, SIDE, CELL_UM / px, rng)
    cells = 0 if rng.random() < 1 / 12 else 1 + rng.poisson(min(30.0, (SIDE / px) ** 2 * rng.uniform(0, 0.35)))
    image, masks = draw_field(site, list(rng.choice(list(RECIPES), cells)), rng)
    return image, list(masks.astype(np.uint8))


def synthetic_empty(rng: np.random.Generator) -> Picture:
    """A field of a random laboratory without a white cell, its red cells often dark and crowded."""
    px = np.exp(rng.uniform(*np.log(CELL_PX)))
    site = random_site(SIDE, SIDE, CELL_UM / px, rng)
    site = replace(site, red_cells_per_um2=float(rng.uniform(0.008, 0.022)))
    return draw_field(site, [], rng)[0], []


class RealCells:
    """Outlined single-cell pictures of some sets, and pictures without a white cell."""

    def __init__(self, sets: list[tuple[str, Path]], left_out: set[str], boxes: dict[str, np.ndarray]) -> None:
        cells: list[tuple[Path, int]] = []
        self.empty: list[Path] = []
        for name, folder in sets:
            for path in find_images(folder).files.values():
                if not path.name.startswith(SETS[name].only) or of_examination(path.name):
                    continue
                if sha256_file(path) in left_out:
                    continue
                if path.name.startswith("PLATELET"):  # Acevedo-20's eighth folder
                    self.empty.append(path)
                else:
                    cells.append((path, SETS[name].side))
        self.pool: list[tuple[Path, np.ndarray]] = []
        order = np.random.default_rng(0).permutation(len(cells))
        with tqdm(total=POOL, desc="outlines") as progress:
            for k in order:
                if len(self.pool) == POOL:
                    break
                path, side = cells[k]
                box = boxes.get(path.stem)
                mask = _outlined(path, side) if box is None else _outlined_in(path, box)
                if mask is not None:
                    self.pool.append((path, mask))
                    progress.update()

    def picture(self, rng: np.random.Generator) -> Picture:
        """A close view of one cell, a mosaic of several, or a picture of platelets."""
        kind = rng.random()
        if kind < 0.06 and self.empty:
            image = read_rgb(self.empty[rng.integers(len(self.empty))])
            return _turned(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), [], rng)
        if kind < 0.5:
            return self._close(rng)
        return self._mosaic(int(rng.choice((2, 2, 3, 4))), rng)

    def without_cell(self, rng: np.random.Generator) -> Picture:
        """A corner of a picture that its cell does not reach, enlarged or mirrored to a field."""
        while True:
            image, mask = self._one(rng)
            side = int(rng.integers(70, 130))
            y, x = (int(rng.choice((0, length - side))) for length in mask.shape)
            if not mask[y : y + side, x : x + side].any():
                break
        corner = image[y : y + side, x : x + side]
        rest = side * int(rng.integers(0, 3))
        field = np.pad(corner, ((0, rest), (0, rest), (0, 0)), "symmetric")
        return _turned(cv2.resize(field, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), [], rng)

    def on_field(self, fields: RedCellFields, rng: np.random.Generator) -> Picture:
        """Some cells on a real field of red cells."""
        field, red_cell = fields.view(rng)
        taken, masks = np.zeros(field.shape[:2], np.uint8), []
        for _ in range(1 + rng.poisson(0.15 * min(10.0, (SIDE / red_cell / 2) ** 2))):
            diameter = red_cell * float(rng.uniform(*RATIO))
            if diameter < 0.9 * SIDE:
                mask = put_cell(field, *self._one(rng), diameter, taken, rng)
                masks += [] if mask is None else [mask]
        return defocus(field, red_cell, rng), masks

    def _one(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A whole picture and the mask of its only cell, at its own size."""
        path, mask = self.pool[rng.integers(len(self.pool))]
        return read_rgb(path), mask

    def _close(self, rng: np.random.Generator) -> Picture:
        image, mask = self._one(rng)
        view = int(min(image.shape[:2]) * np.exp(rng.uniform(np.log(0.4), 0)))
        y, x = (int(rng.integers(0, length - view + 1)) for length in image.shape[:2])
        window = slice(y, y + view), slice(x, x + view)
        image = cv2.resize(image[window], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return _turned(image, [cv2.resize(mask[window], (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)], rng)

    def _mosaic(self, parts: int, rng: np.random.Generator) -> Picture:
        field = np.zeros((SIDE, SIDE, 3), np.uint8)
        masks = []
        edges = np.linspace(0, SIDE, parts + 1).round().astype(int)
        for top, bottom in pairwise(edges):
            for left, right in pairwise(edges):
                image, mask = self._one(rng)
                image, (mask,) = _turned(image, [mask], rng)
                size = right - left, bottom - top
                field[top:bottom, left:right] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                whole = np.zeros((SIDE, SIDE), np.uint8)
                whole[top:bottom, left:right] = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
                masks.append(whole)
        return field, masks


def _turned(image: np.ndarray, masks: list[np.ndarray], rng: np.random.Generator) -> Picture:
    turns = int(rng.integers(4))
    return np.ascontiguousarray(np.rot90(image, turns)), [np.ascontiguousarray(np.rot90(m, turns)) for m in masks]


def _outlined(path: Path, side: int) -> np.ndarray | None:
    """The mask (h, w) of the cell in the centre; None where it is doubtful."""
    image = read_rgb(path)
    height, width = image.shape[:2]
    side = min(side, height, width)
    y, x = (height - side) // 2, (width - side) // 2
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + side, x : x + side] = outline(image[y : y + side, x : x + side])
    return mask if _is_sound(image, mask, side) else None


def _outlined_in(path: Path, box: np.ndarray) -> np.ndarray | None:
    """The mask (h, w) of the cell in a box (4,), centre, width and height as parts of the picture; None if doubtful."""
    image = read_rgb(path)
    height, width = image.shape[:2]
    middle, size = box[:2] * (width, height), box[2:] * (width, height)
    x, y = (np.mgrid[:height, :width][::-1].T + 0.5 - middle).T
    distance = np.hypot(x / (size[0] / 2), y / (size[1] / 2))
    inside = (abs(x) < size[0] / 2) & (abs(y) < size[1] / 2)
    green = cv2.GaussianBlur(image[..., 1], (0, 0), max(size) / 70)
    threshold, _ = cv2.threshold(green[inside], 0, 255, cv2.THRESH_OTSU)
    nucleus = (green <= threshold) & (distance < 0.8)
    guess = np.full((height, width), cv2.GC_BGD, np.uint8)
    guess[inside] = cv2.GC_PR_BGD
    guess[distance < 0.95] = cv2.GC_PR_FGD
    guess[nucleus] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(image[..., ::-1]), guess, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    cell = np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    round_part = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (round(0.06 * max(size)) | 1,) * 2)
    cell = near_centre((cv2.morphologyEx(cell, cv2.MORPH_OPEN, round_part) > 0) | nucleus, nucleus).astype(np.uint8)
    contours, _ = cv2.findContours(cell, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(contours) != 1:
        return None
    hull = cv2.contourArea(cv2.convexHull(contours[0]))
    filled = np.array(cv2.boundingRect(contours[0])[2:]) / size
    if filled.min() < 0.85 or cv2.contourArea(contours[0]) < 0.9 * hull:
        return None
    return cv2.drawContours(np.zeros_like(cell), contours, -1, 1, cv2.FILLED)


def _boxes(folder: Path) -> dict[str, np.ndarray]:
    """The only box (4,) of each picture, by its stem, out of the YOLO labels in a folder."""
    found = {path.stem: np.loadtxt(path, ndmin=2) for path in sorted(folder.rglob("*.txt"))}
    return {stem: rows[0, 1:] for stem, rows in found.items() if rows.shape == (1, 5)}


def _is_sound(image: np.ndarray, mask: np.ndarray, side: int) -> bool:
    """Whether the outline is round enough to be one cell, inside the square, and no other nucleus lies outside it."""
    area = int(mask.sum())
    if not 0.06 < area / side**2 < 0.7:
        return False
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.contourArea(cv2.convexHull(contours[0]))
    if len(contours) != 1 or area < 0.92 * hull:
        return False
    green = image[..., 1]
    dark = np.percentile(green[mask > 0], 40)
    around = cv2.dilate(mask, np.ones((9, 9), np.uint8)) == 0
    return bool(((green <= dark) & around).mean() < 0.004)


def write_set(folder: Path, number: int, seed: int, draw: Callable[[np.random.Generator], Picture]) -> None:
    """Write `number` pictures, coco.json and dataset.yaml; what is there already is kept."""
    coco = {"images": [], "annotations": [], "categories": CATEGORIES}
    if (folder / "coco.json").exists():
        coco = read_json(folder / "coco.json")
    for i in tqdm(range(len(coco["images"]), number), desc=folder.name):
        image, masks = draw(np.random.default_rng([seed, i]))
        name = f"{i:05d}.jpg"
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        with atomic_path(folder / "images" / name) as unfinished:
            unfinished.write_bytes(data.tobytes())
        coco["images"].append({"id": i + 1, "file_name": name, "height": SIDE, "width": SIDE})
        for mask in masks:
            if mask.sum() >= SMALLEST:
                coco["annotations"].append(annotation(len(coco["annotations"]) + 1, i + 1, encode(mask)))
        if (i + 1) % PART == 0 or i + 1 == number:
            write_json(folder / "coco.json", coco)
    write_text(
        folder / "dataset.yaml", f"name: {folder.name}\ndomain: {folder.name}\nimages: images\ncoco: coco.json\n"
    )


def main() -> None:
    """Write the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("NAME", "FOLDER"), dest="sets")
    parser.add_argument("--boxes", type=Path, metavar="FOLDER", help="of YOLO labels, named like the pictures")
    parser.add_argument("--leave-out", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--red-cells", type=Path, metavar="FOLDER", help="pictures of Chula-RBC-12")
    parser.add_argument("--synthetic", type=int, default=2500)
    parser.add_argument("--real", type=int, default=2500)
    parser.add_argument("--fields", type=int, default=1600, help="with white cells; half as many without")
    parser.add_argument("--empty", type=int, default=400, help="pictures without a white cell, of each other kind")
    given = parser.parse_args()
    write_set(given.data_root / "builtin-synthetic", given.synthetic, 0, synthetic)
    write_set(given.data_root / "builtin-synthetic-empty", given.empty, 2, synthetic_empty)
    if given.sets:
        left_out = contents(given.leave_out)
        boxes = _boxes(given.boxes) if given.boxes else {}
        cells = RealCells([(name, Path(folder)) for name, folder in given.sets], left_out, boxes)
        write_set(given.data_root / "builtin-real", given.real, 1, cells.picture)
        write_set(given.data_root / "builtin-real-empty", given.empty, 3, cells.without_cell)
        if given.red_cells:
            fields = RedCellFields(given.red_cells)
            write_set(given.data_root / "builtin-fields", given.fields, 4, partial(cells.on_field, fields))
            empty = given.data_root / "builtin-fields-empty"
            write_set(empty, given.fields // 2, 5, lambda rng: (defocus(*fields.view(rng), rng), []))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    main()
