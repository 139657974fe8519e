"""A field of a smear: white cells and red cells around them.

`draw_cell_image` has one white cell near the centre and perhaps a second one cut by the border, `draw_field` any
number.

Red cells have the 7 to 8 µm of a textbook; the other numbers were chosen by eye, beside photographs of smears.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cellfeat.data.synthetic.cells import Leucocyte, draw_leucocyte
from cellfeat.data.synthetic.recipes import RECIPES
from cellfeat.data.synthetic.shapes import Generator, Patch, smooth_noise, turned, wobbly
from cellfeat.data.synthetic.sites import Site
from cellfeat.errors import CellfeatError

SUPERSAMPLING = 2  # drawn at twice the site's resolution, then averaged: smooth edges
CLOSEST = -0.6  # µm between two cells of a field; below 0 they overlap a little
SECOND_CELL_CHANCE = 0.25  # enough that training sees cells cut by the border
PLATELET = np.array((0.06, 0.30, 0.10), np.float32)
PRECIPITATE = np.array((0.0, 1.0, 0.5), np.float32)

Placed = tuple[Leucocyte, np.ndarray]
"""A cell and its centre (x, y) in µm."""


def draw_cell_image(site: Site, label: str, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one single-cell image.

    Args:
        site: The laboratory.
        label: Class of the cell in the centre, one of the 13 of the vocabulary.
        rng: Random generator; the same state gives the same image.

    Returns:
        The image, (h, w, 3) uint8 RGB, and the masks of its white cells, (n, h, w) bool, the labelled cell first. Masks
        do not overlap, and a cell that the border cuts has the mask of what is seen of it.

    Raises:
        CellfeatError: `label` is not a class that can be drawn.
    """
    if label not in RECIPES:
        raise CellfeatError(f"{label!r} is not a class of the synthetic smears; choose one of {', '.join(RECIPES)}")
    field = Field(site)
    return _laid(field, field.place_leucocytes(label, rng), rng)


def draw_field(site: Site, labels: Sequence[str], rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw white cells anywhere on a field, touching or cut by the border.

    Args:
        site: The laboratory.
        labels: Their classes; a cell for which no free place is found is left out.
        rng: Random generator; the same state gives the same image.

    Returns:
        As `draw_cell_image`; (0, h, w) masks without cells.
    """
    field = Field(site)
    return _laid(field, field.scatter_leucocytes(labels, rng), rng)


def _laid(field: Field, cells: list[Placed], rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    site = field.site
    field.add_red_cells(cells, rng)
    field.add_platelets(cells, rng)
    coverages = [field.add_leucocyte(cell, centre) for cell, centre in reversed(cells)][::-1]
    field.add_precipitate(rng)
    return photograph(field.dyes, site, rng), _disjoint_masks(coverages, site)


class Field:
    """The dyes on a piece of glass, at SUPERSAMPLING times the site's resolution.

    Attributes:
        dyes: (H, W, 3) float32, amount of eosin, purple and blue.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.px_per_um = SUPERSAMPLING / site.um_per_px
        self.dyes = np.zeros((site.height * SUPERSAMPLING, site.width * SUPERSAMPLING, 3), np.float32)
        self.size_um = np.array([site.width, site.height]) * site.um_per_px

    def place_leucocytes(self, label: str, rng: Generator) -> list[Placed]:
        """The labelled cell near the centre and, by chance, one that the border cuts.

        Returns:
            The cells, the labelled one first.
        """
        first = draw_leucocyte(label, self.px_per_um, rng)
        centre = self.size_um / 2 + np.clip(rng.normal(0, 0.7, 2), -1.6, 1.6)
        cells = [(first, centre)]
        if rng.random() < SECOND_CELL_CHANCE:
            second = draw_leucocyte(rng.choice(list(RECIPES)), self.px_per_um, rng)
            for _ in range(20):
                direction = turned(np.array([[1.0, 0.0]]), rng.uniform(0, 2 * np.pi))[0]
                touching = first.reach(direction) + second.reach(-direction)
                there = centre + direction * (touching + rng.uniform(0.2, self.size_um.max() / 3))
                to_border = np.minimum(there, self.size_um - there).min()
                if -0.5 < to_border / second.reach_um.mean() < 0.8:
                    cells.append((second, there))
                    break
        return cells

    def scatter_leucocytes(self, labels: Sequence[str], rng: Generator) -> list[Placed]:
        """Cells anywhere on the field, as `place_leucocytes` returns them; the nearest ones touch."""
        cells: list[Placed] = []
        for label in labels:
            cell = draw_leucocyte(label, self.px_per_um, rng)
            for _ in range(20):
                there = rng.uniform(-1, self.size_um + 1)
                gaps = (
                    np.hypot(*(away := there - other)) - placed.reach(away) - cell.reach(-away)
                    for placed, other in cells
                )
                if all(gap > CLOSEST for gap in gaps):
                    cells.append((cell, there))
                    break
        return cells

    def add_red_cells(self, cells: list[Placed], rng: Generator) -> None:
        """Scatter red cells; those too near a white cell are pushed away until they touch it."""
        margin = 4.0
        area = np.prod(self.size_um + 2 * margin)
        mean_radius = rng.normal(3.7, 0.15)
        placed: list[tuple[np.ndarray, float]] = []
        for _ in range(rng.poisson(area * self.site.red_cells_per_um2 * rng.uniform(0.6, 1.4))):
            radius = mean_radius * np.clip(rng.normal(1, 0.09), 0.75, 1.25)
            for _ in range(6):
                centre = rng.uniform(-margin, self.size_um + margin)
                for cell, there in cells:
                    away = centre - there
                    distance = np.hypot(*away) + 1e-6
                    if distance < (touch := cell.reach(away) + radius):
                        centre = there + away / distance * touch
                squeeze = rng.uniform(0.6, 1.15)  # below 1 they overlap
                clear = all(np.hypot(*(c := centre - there)) > cell.reach(c) + radius - 0.4 for cell, there in cells)
                if clear and all(np.hypot(*(centre - other)) > squeeze * (radius + r) for other, r in placed):
                    placed.append((centre, radius))
                    break
        pallor = rng.uniform(0.55, 0.95)
        for centre, radius in placed:
            self._add(self.site.red_cell_density * _red_cell(radius, pallor, self.px_per_um, rng), centre)

    def add_platelets(self, cells: list[Placed], rng: Generator) -> None:
        """Lay down a few platelets, away from the white cells."""
        for _ in range(rng.poisson(self.size_um.prod() / 700)):
            radius = rng.uniform(0.7, 1.5)
            centre = rng.uniform(0, self.size_um)
            if any(np.hypot(*(away := centre - there)) < cell.reach(away) + 1.6 * radius for cell, there in cells):
                continue
            patch = Patch(radius * 1.5, self.px_per_um)
            body = patch.blur(patch.fill([wobbly(rng, radius, 0.12, rng.uniform(1, 1.6))]), 0.15)
            body *= np.clip(1 + 0.6 * patch.noise(rng, 0.35), 0.2, None) * patch.blur(body, radius * 0.4) * 1.5
            self._add(body[..., None] * PLATELET, centre)

    def add_precipitate(self, rng: Generator) -> None:
        """Specks of stain that fell out of solution, here and there."""
        for _ in range(rng.poisson(0.8)):
            patch = Patch(0.6, self.px_per_um)
            speck = patch.blur(patch.dots(np.zeros((1, 2)), rng.uniform(0.1, 0.3, 1), np.array([0.8])), 0.08)
            self._add(speck[..., None] * PRECIPITATE, rng.uniform(0, self.size_um))

    def add_leucocyte(self, cell: Leucocyte, centre: np.ndarray) -> np.ndarray:
        """Lay a white cell over what is there, with a thin gap of bare ground around it; return its coverage (H, W)."""
        coverage = np.zeros(self.dyes.shape[:2], np.float32)
        window, part = self._window(cell.coverage.shape[0], centre)
        coverage[window] = cell.coverage[part]
        gap = cv2.GaussianBlur(cell.coverage, (0, 0), 0.25 * self.px_per_um)
        self.dyes[window] *= (1 - np.clip(np.maximum(2.2 * gap - 0.1, cell.coverage), 0, 1))[part][..., None]
        self.dyes[window] += cell.dyes[part]
        return coverage

    def _add(self, stamp: np.ndarray, centre: np.ndarray) -> None:
        window, part = self._window(stamp.shape[0], centre)
        self.dyes[window] += stamp[part]

    def _window(self, size: int, centre: np.ndarray) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where a square stamp around `centre` (µm) falls on the field, and which part of the stamp that is."""
        window, part = [], []
        for position, length in ((centre[1], self.dyes.shape[0]), (centre[0], self.dyes.shape[1])):
            start = round(position * self.px_per_um) - size // 2
            low, high = np.clip([start, start + size], 0, length)
            window.append(slice(low, high))
            part.append(slice(low - start, high - start))
        return (window[0], window[1]), (part[0], part[1])


def _red_cell(radius: float, pallor: float, px_per_um: float, rng: Generator) -> np.ndarray:
    """A biconcave disc, (s, s, 3): thick towards the edge, pale in the middle."""
    patch = Patch(radius * 1.3, px_per_um)
    coverage = patch.fill([turned(wobbly(rng, radius, 0.025, rng.uniform(1, 1.18)), rng.uniform(0, 6.3))])
    depth = patch.depth(coverage) / radius  # 0 at the edge, 1 in the centre
    pallor = pallor * rng.uniform(0.7, 1.1)
    middle = rng.uniform(0.48, 0.64)
    dimple = 1 / (1 + np.exp(-(depth - middle) / 0.085))
    thickness = 1 - pallor * dimple + 0.25 * np.exp(-((depth / 0.09) ** 2))
    dyes = np.array((rng.normal(0.31, 0.02), 0.02, rng.normal(0.10, 0.015)), np.float32)
    return (patch.blur(coverage, 0.12) * thickness)[..., None] * dyes


def photograph(dyes: np.ndarray, site: Site, rng: Generator) -> np.ndarray:
    """Light through the stained field, lens and sensor: dyes (H, W, 3) -> image (h, w, 3) uint8 RGB."""
    strength = np.clip(rng.normal(1, site.stain_spread, 3), 0.6, 1.4) * np.clip(
        rng.normal(1, site.stain_spread), 0.7, 1.3
    )
    densities = np.array([site.eosin, site.purple, site.blue]) * strength[:, None]
    light = np.exp(-np.log(10) * (dyes @ densities.astype(np.float32)))
    light = cv2.resize(light, (site.width, site.height), interpolation=cv2.INTER_AREA)
    blur_um = np.hypot(site.blur_um, site.defocus_um * rng.random() ** 2)
    light = cv2.GaussianBlur(light, (0, 0), blur_um / site.um_per_px)
    ground = np.array(site.ground) * (1 + rng.normal(0, 0.01, 3)) * (1 + rng.normal(0, 0.015))
    light *= _illumination(site, rng)[..., None] * ground.astype(np.float32)
    shot = rng.standard_normal(light.shape, np.float32) * np.sqrt(np.maximum(light, 0) / 255 + 0.1)
    return np.clip(np.round(light + site.noise * shot), 0, 255).astype(np.uint8)


def _illumination(site: Site, rng: Generator) -> np.ndarray:
    """Relative light over the field, (h, w) float32: a tilt, vignetting and uneven plasma."""
    y = np.linspace(-1, 1, site.height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, site.width, dtype=np.float32)[None, :]
    angle = rng.uniform(0, 2 * np.pi)
    tilt = np.float32(site.tilt * rng.random() / 2) * (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)))
    plasma = 0.006 * smooth_noise(rng, (site.height, site.width), site.height / 4)
    return (1 + tilt + plasma) * (1 - np.float32(site.vignetting) * (x**2 + y**2) / 2)


def _disjoint_masks(coverages: list[np.ndarray], site: Site) -> np.ndarray:
    """Coverage at drawing resolution -> masks (n, h, w) bool; the earlier cell keeps what two would share."""
    taken = np.zeros((site.height, site.width), bool)
    masks = []
    for coverage in coverages:
        mask = (cv2.resize(coverage, (site.width, site.height), interpolation=cv2.INTER_AREA) >= 0.5) & ~taken
        taken |= mask
        if mask.any():
            masks.append(mask)
    return np.stack(masks) if masks else np.zeros((0, site.height, site.width), bool)
