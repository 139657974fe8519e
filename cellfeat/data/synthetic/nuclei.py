"""Shapes of nuclei: functions (rng, cell radius in µm) -> outlines (n, 2) in µm around the cell's centre.

Fractions are of the cell's radius. What no recipe states was chosen by eye, beside photographs of smears.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cellfeat.data.synthetic.shapes import Generator, Range, turned, wobbly

Nucleus = Callable[[Generator, float], list[np.ndarray]]


def round_nucleus(
    share: Range, offset: Range = (0.0, 0.05), aspect: Range = (1.0, 1.15), notch: float = 0.0
) -> Nucleus:
    """A round or oval nucleus: `share` of the cell's radius, set off centre by `offset` of it."""

    def draw(rng: Generator, radius: float) -> list[np.ndarray]:
        r = radius * rng.uniform(*share)
        bays = [(rng.uniform(0, 6.3), rng.uniform(0, notch), 0.45)]
        outline = turned(wobbly(rng, r, 0.02, rng.uniform(*aspect), bays), rng.uniform(0, 6.3))
        away = min(radius * rng.uniform(*offset), max(radius * 0.97 - r, 0.0))
        return [outline + turned(np.array([[away, 0.0]]), rng.uniform(0, 6.3))]

    return draw


def bean_nucleus(share: Range, indent: Range, half_width: float, aspect: Range = (1.15, 1.4)) -> Nucleus:
    """An indented nucleus, from kidney to horse's saddle: `indent` is the bay's depth as a fraction of its radius."""

    def draw(rng: Generator, radius: float) -> list[np.ndarray]:
        r = radius * rng.uniform(*share)
        bays = [(np.pi / 2 + rng.normal(0, 0.25), rng.uniform(*indent), half_width * rng.uniform(0.8, 1.2))]
        outline = wobbly(rng, r, 0.035, rng.uniform(*aspect), bays)
        outline -= outline.mean(axis=0) * 0.5 + np.array([0.0, radius * 0.12])
        return [turned(outline, rng.uniform(0, 6.3))]

    return draw


def band_nucleus(rng: Generator, radius: float) -> list[np.ndarray]:
    """A band bent into a C, U or S, nowhere narrower than a third of its widest part (the definition of a band)."""
    bend = radius * rng.uniform(0.46, 0.56)
    span = rng.uniform(2.9, 4.4)
    t = np.linspace(-0.5, 0.5, 40)
    path = np.stack([bend * np.cos(span * t), bend * np.sin(span * t)], axis=1)
    if rng.random() < 0.2:  # an S: the second half bends the other way
        path[20:] = 2 * path[20] - path[20::-1][:20]
    path -= path.mean(axis=0) * 0.9
    width = radius * rng.uniform(0.2, 0.26) * (1 + 0.28 * (2 * np.abs(t)) ** 2 + rng.normal(0, 0.08) * np.sin(9 * t))
    return [turned(sausage(path, width), rng.uniform(0, 6.3))]


def lobed_nucleus(lobes: tuple[float, ...], share: float) -> Nucleus:
    """Lobes on an arc, joined by threads.

    Args:
        lobes: Probability of 2, 3, 4, 5 lobes.
        share: Area of the nucleus over area of the cell.
    """

    def draw(rng: Generator, radius: float) -> list[np.ndarray]:
        n = 2 + int(rng.choice(len(lobes), p=lobes))
        lobe = radius * (share / n) ** 0.5
        arc = max(radius * rng.uniform(0.43, 0.52), lobe * 1.02)
        step = 2 * np.arcsin(min(1.0, lobe * rng.uniform(1.02, 1.15) / arc))
        angle = step * (np.arange(n) - (n - 1) / 2) + rng.normal(0, 0.1, n)
        away = np.minimum(arc * rng.uniform(0.88, 1.12, n), radius * 0.96 - lobe)
        centres = np.stack([away * np.cos(angle), away * np.sin(angle)], axis=1)
        centres -= centres.mean(axis=0) * 0.6
        outlines = [
            turned(wobbly(rng, lobe * rng.uniform(0.9, 1.1), 0.06, rng.uniform(1.0, 1.35)), a + rng.normal(0, 0.5))
            + centre
            for centre, a in zip(centres, angle + np.pi / 2)
        ]
        thread = np.array([max(radius * 0.045, 0.2)] * 2)
        outlines += [sausage(centres[i : i + 2], thread) for i in range(n - 1)]
        turn = rng.uniform(0, 6.3)
        return [turned(outline, turn) for outline in outlines]

    return draw


def sausage(path: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    """The outline around a path (n, 2) of given half width (n,), with round ends."""
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)

    def cap(end: int, sign: float) -> np.ndarray:
        turn = np.linspace(np.pi / 2, -np.pi / 2, 12)[:, None]
        return path[end] + half_width[end] * sign * (np.cos(turn) * along[end] + np.sin(turn) * across[end])

    left, right = path + across * half_width[:, None], path - across * half_width[:, None]
    return np.concatenate([left, cap(-1, 1.0), right[::-1], cap(0, -1.0)])
