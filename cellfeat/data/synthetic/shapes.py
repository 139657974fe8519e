"""Outlines in µm, a patch of pixels to draw them on, and the noise that chromatin and cytoplasm are made of."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

SUBPIXEL_BITS = 4  # cv2 draws at fixed-point coordinates: 1/16 px

Generator = np.random.Generator
Range = tuple[float, float]


def wobbly(
    rng: Generator, radius: float, roughness: float = 0.03, aspect: float = 1.0, bays: Sequence = ()
) -> np.ndarray:
    """A closed, roughly elliptic outline around the origin.

    Args:
        rng: Random generator.
        radius: Mean radius, µm.
        roughness: Relative amplitude of the irregularities.
        aspect: Long axis over short axis.
        bays: Indentations as (angle in rad, depth as a fraction of the radius, half width in rad).

    Returns:
        (96, 2) float64 of x, y in µm.
    """
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    r = np.ones_like(angle)
    for harmonic in range(2, 7):
        r += rng.normal(0, roughness * 1.5 / harmonic) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    for bay_angle, depth, half_width in bays:
        away = np.angle(np.exp(1j * (angle - bay_angle)))
        r -= depth * np.exp(-((away / half_width) ** 2))
    x, y = radius * r * np.cos(angle) * aspect**0.5, radius * r * np.sin(angle) * aspect**-0.5
    return np.stack([x, y], axis=1)


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Points (n, 2) turned about the origin by `angle` (rad)."""
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


class Patch:
    """A square of pixels around the origin of the µm plane, on which coverage maps (float32, 0..1) are drawn.

    Args:
        radius_um: Half of the square's side, µm.
        px_per_um: Resolution.
    """

    def __init__(self, radius_um: float, px_per_um: float) -> None:
        self.px_per_um = px_per_um
        self.half = int(np.ceil(radius_um * px_per_um)) + 2
        self.size = 2 * self.half + 1

    def _fixed(self, um: np.ndarray) -> np.ndarray:
        return np.round((np.asarray(um) * self.px_per_um + self.half) * (1 << SUBPIXEL_BITS)).astype(np.int32)

    def blank(self) -> np.ndarray:
        """An empty coverage map, (size, size) float32."""
        return np.zeros((self.size, self.size), np.float32)

    def fill(self, outlines: Sequence[np.ndarray]) -> np.ndarray:
        """Coverage of the union of closed outlines (each (n, 2), µm)."""
        canvas = np.zeros((self.size, self.size), np.uint8)
        for outline in outlines:
            cv2.fillPoly(canvas, [self._fixed(outline)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        return canvas.astype(np.float32) / 255

    def dots(self, centres: np.ndarray, radii: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        """Coverage of discs: centres (n, 2) µm, radii (n,) µm, strengths (n,) 0..1."""
        canvas = np.zeros((self.size, self.size), np.uint8)
        fixed_radii = np.maximum(radii * self.px_per_um * (1 << SUBPIXEL_BITS), 8).astype(int)
        for centre, radius, strength in zip(self._fixed(centres), fixed_radii, strengths):
            centre_xy = (int(centre[0]), int(centre[1]))
            cv2.circle(canvas, centre_xy, int(radius), int(255 * strength), -1, cv2.LINE_AA, SUBPIXEL_BITS)
        return canvas.astype(np.float32) / 255

    def noise(self, rng: Generator, grain_um: float) -> np.ndarray:
        """Smooth noise of mean 0 and standard deviation near 1 whose grains measure about `grain_um`."""
        return smooth_noise(rng, (self.size, self.size), grain_um * self.px_per_um)

    def blur(self, field: np.ndarray, sigma_um: float) -> np.ndarray:
        """Gaussian blur with a standard deviation in µm."""
        return cv2.GaussianBlur(field, (0, 0), max(sigma_um * self.px_per_um, 0.3))

    def depth(self, coverage: np.ndarray) -> np.ndarray:
        """Distance in µm from each covered pixel to the edge of the covered region; 0 outside."""
        return cv2.distanceTransform((coverage > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / self.px_per_um


def smooth_noise(rng: Generator, shape: tuple[int, int], grain_px: float) -> np.ndarray:
    """Smooth noise (h, w) float32: a coarse grid of normal deviates, interpolated."""
    grain_px = max(grain_px, 1.0)
    coarse = rng.standard_normal((int(shape[0] / grain_px) + 3, int(shape[1] / grain_px) + 3)).astype(np.float32)
    fine = cv2.resize(coarse, None, fx=grain_px, fy=grain_px, interpolation=cv2.INTER_CUBIC)
    return fine[: shape[0], : shape[1]] * 1.3  # interpolation takes away about a quarter of the deviation
