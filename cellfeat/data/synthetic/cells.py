"""Draws one white blood cell from the recipe of its class.

Sizes are fractions of the cell's radius or µm. What no recipe states was chosen by eye, beside photographs of smears.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellfeat.data.synthetic.nuclei import sausage
from cellfeat.data.synthetic.recipes import RECIPES, Granules, Recipe
from cellfeat.data.synthetic.shapes import Generator, Patch, turned, wobbly


@dataclass(frozen=True)
class Leucocyte:
    """A drawn cell, centred in a square patch.

    Attributes:
        dyes: (s, s, 3) float32, amount of eosin, purple and blue, already weighted by `coverage`.
        coverage: (s, s) float32, 0..1; what lies under the cell is hidden to that degree.
        reach_um: (64,) float64, µm from the centre to the farthest point of the cell, by direction from -π to π.
    """

    dyes: np.ndarray
    coverage: np.ndarray
    reach_um: np.ndarray

    def reach(self, away: np.ndarray) -> float:
        """Extent of the cell towards `away` (x, y), µm."""
        return float(self.reach_um[int((np.arctan2(away[1], away[0]) / (2 * np.pi) + 0.5) * 64) % 64])


def draw_leucocyte(label: str, px_per_um: float, rng: Generator) -> Leucocyte:
    """Draw one cell of class `label` (a key of RECIPES) at `px_per_um`."""
    recipe = RECIPES[label]
    radius = rng.uniform(*recipe.diameter) / 2
    patch = Patch(radius * 1.75, px_per_um)
    draw = _draw_smudge if label == "smudge_cell" else _draw_whole
    dyes, coverage = draw(recipe, radius, patch, rng)
    return Leucocyte(dyes * coverage[..., None], coverage, _reach(coverage, patch))


def _reach(coverage: np.ndarray, patch: Patch) -> np.ndarray:
    y, x = np.nonzero(coverage[::2, ::2] > 0.5)
    dx, dy = 2.0 * x - patch.half, 2.0 * y - patch.half
    sector = ((np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * 64).astype(int) % 64
    reach = np.zeros(64)
    np.maximum.at(reach, sector, np.hypot(dx, dy))
    return reach / patch.px_per_um


def _draw_whole(recipe: Recipe, radius: float, patch: Patch, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    outline = wobbly(rng, radius, recipe.roughness, rng.uniform(*recipe.aspect))
    coverage = patch.fill([turned(outline, rng.uniform(0, 6.3))])
    nucleus = np.minimum(patch.fill(recipe.nucleus(rng, radius)), coverage)
    dyes = _cytoplasm(recipe, coverage, nucleus, patch, rng)
    for _ in range(rng.integers(recipe.vacuoles[0], recipe.vacuoles[1] + 1)):
        hole = patch.dots(_inside(rng, radius * 0.92, 1), rng.uniform(0.25, 0.75, 1), np.array([0.75]))
        dyes *= 1 - patch.blur(hole, 0.05)[..., None]
    nucleus_edge = patch.blur(nucleus, 0.07)[..., None]
    dyes += (_chromatin(recipe, nucleus, patch, rng) - dyes) * nucleus_edge
    for granules in recipe.granules:
        dots = _granules(granules, radius, patch, rng) * (1 - (1 - granules.over_nucleus) * nucleus)
        dyes += (np.array(granules.dyes, np.float32) - dyes) * dots[..., None]
    return dyes, coverage


def _draw_smudge(recipe: Recipe, radius: float, patch: Patch, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """A nucleus crushed in spreading: a torn, fuzzy body whose strands trail away to one side."""
    turn = rng.uniform(0, 6.3)
    body = turned(wobbly(rng, radius * 0.85, recipe.roughness, rng.uniform(*recipe.aspect)), turn)
    strands = []
    for _ in range(rng.integers(4, 12)):
        reach, lean = radius * rng.uniform(0.8, 1.35), rng.normal(0, 0.35)
        path = np.array([[0.0, 0.0], [reach * np.cos(lean), reach * np.sin(lean)]]) + radius * rng.uniform(
            -0.25, 0.25, 2
        )
        strands.append(turned(sausage(path, np.array([radius * 0.2, radius * rng.uniform(0.02, 0.12)])), turn))
    solid = patch.fill([body])
    torn = patch.blur(patch.fill([body, *strands]), 0.5) + 0.08 * patch.noise(rng, 1.2) + 0.05 * patch.noise(rng, 0.4)
    coverage = np.clip((torn - 0.3) / 0.4, 0, 1)
    thickness = 0.3 + 0.7 * patch.blur(solid, radius * 0.2)
    dyes = _chromatin(recipe, patch.blank(), patch, rng) * thickness[..., None]
    return dyes, patch.blur(coverage, 0.15)


def _cytoplasm(recipe: Recipe, coverage: np.ndarray, nucleus: np.ndarray, patch: Patch, rng: Generator) -> np.ndarray:
    mix = rng.random()
    base = mix * np.array(recipe.cytoplasm[0]) + (1 - mix) * np.array(recipe.cytoplasm[1])
    strength = 1 + 0.10 * patch.noise(rng, 1.6) + 0.06 * patch.noise(rng, 0.4)
    depth = patch.depth(coverage)
    strength += recipe.rim * np.exp(-((depth / 1.2) ** 2)) + 0.25 * np.exp(-((depth / 0.25) ** 2))
    if recipe.halo:
        strength *= 1 - recipe.halo * np.clip(2 * patch.blur(nucleus, 0.8), 0, 1)
    return np.clip(strength, 0.05, None)[..., None] * base.astype(np.float32)


def _chromatin(recipe: Recipe, nucleus: np.ndarray, patch: Patch, rng: Generator) -> np.ndarray:
    strength = 1 + recipe.clumps * np.tanh(1.6 * patch.noise(rng, 0.65)) + recipe.grain * patch.noise(rng, 0.3)
    strength += 0.25 * np.exp(-((patch.depth(nucleus) / 0.3) ** 2))  # chromatin lies against the membrane
    dyes = np.clip(strength, 0.1, None)[..., None] * np.array(recipe.chromatin, np.float32)
    number = rng.integers(recipe.nucleoli[0], recipe.nucleoli[1] + 1)
    if number:
        inside = np.argwhere(patch.depth(nucleus) > 1.2)
        centres = (inside[rng.integers(len(inside), size=number)][:, ::-1] - patch.half) / patch.px_per_um
        nucleoli = patch.blur(patch.dots(centres, rng.uniform(0.6, 1.1, number), np.full(number, 0.9)), 0.12)
        pale_blue = np.array((0.0, 0.36, 0.30), np.float32)
        dyes += (pale_blue - dyes) * nucleoli[..., None]
    return dyes


def _granules(granules: Granules, radius: float, patch: Patch, rng: Generator) -> np.ndarray:
    number = int(rng.uniform(*granules.per_um2) * np.pi * radius**2)
    centres = _inside(rng, radius * 0.96, number)
    return patch.dots(centres, rng.uniform(*granules.radius, number), rng.uniform(0.55, 1.0, number))


def _inside(rng: Generator, radius: float, number: int) -> np.ndarray:
    """Points (number, 2) spread evenly over a disc."""
    away, angle = radius * np.sqrt(rng.random(number)), rng.uniform(0, 2 * np.pi, number)
    return np.stack([away * np.cos(angle), away * np.sin(angle)], axis=1)
