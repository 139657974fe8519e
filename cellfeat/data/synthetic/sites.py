"""The laboratories of the synthetic smears: how each one stains, lights, magnifies and stores a field.

Colour follows Beer and Lambert. A smear is a map of three dyes of the Romanowsky stains (May-Gruenwald-Giemsa and its
relatives): eosin, the purple complex of azure B with eosin that chromatin and azurophilic granules bind, and the blue
of azure B alone on ribonucleic acid. The camera sees ground · 10^(-dyes @ densities), so that a site's stain is one
3 x 3 matrix and its lamp and white balance are the colour of the empty ground.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Site:
    """One laboratory: its stain, its microscope and its camera.

    Attributes:
        name: Dataset and domain name.
        height, width: Image size in px.
        um_per_px: Scale of the images.
        ground: RGB of the empty ground, 0..255 (lamp, plasma and white balance).
        eosin, purple, blue: Optical density in R, G, B of one unit of each dye.
        stain_spread: Relative standard deviation of each dye's strength from image to image.
        red_cells_per_um2: Density of red cells before the white cells push them aside.
        red_cell_density: Of the dyes in a red cell, beside those of the three sites.
        blur_um: Standard deviation of the microscope's point spread at best focus, in µm.
        defocus_um: Largest blur that bad focus adds, in µm.
        vignetting: Light lost in the corners, as a fraction.
        tilt: Largest difference of light across the field, as a fraction.
        noise: Standard deviation of sensor noise at full light, in grey levels of 255.
        suffix: File type, ".png" or ".jpg".
        jpeg_quality: 1..100, read for ".jpg" only.
    """

    name: str
    height: int
    width: int
    um_per_px: float
    ground: Rgb
    eosin: Rgb
    purple: Rgb
    blue: Rgb
    stain_spread: float
    red_cells_per_um2: float
    blur_um: float
    defocus_um: float
    vignetting: float
    tilt: float
    noise: float
    suffix: str
    jpeg_quality: int = 90
    red_cell_density: float = 1.0


SITES: tuple[Site, ...] = (
    # Grey-white ground, magenta nuclei, mauve red cells, sharp: a slide scanner with a 100x oil objective.
    Site(
        name="site-a",
        height=200,
        width=200,
        um_per_px=0.145,
        ground=(240, 234, 236),
        eosin=(0.11, 0.37, 0.18),
        purple=(0.34, 0.92, 0.09),
        blue=(0.48, 0.38, 0.03),
        stain_spread=0.10,
        red_cells_per_um2=0.012,
        blur_um=0.12,
        defocus_um=0.15,
        vignetting=0.03,
        tilt=0.03,
        noise=1.5,
        suffix=".png",
    ),
    # Cream ground, salmon red cells, blue-violet nuclei, stored as JPEG: an automated analyser.
    Site(
        name="site-b",
        height=182,
        width=180,
        um_per_px=0.2,
        ground=(253, 229, 203),
        eosin=(0.10, 0.40, 0.31),
        purple=(0.45, 0.82, 0.16),
        blue=(0.52, 0.40, 0.04),
        stain_spread=0.08,
        red_cells_per_um2=0.013,
        blur_um=0.16,
        defocus_um=0.10,
        vignetting=0.02,
        tilt=0.02,
        noise=1.0,
        suffix=".jpg",
        jpeg_quality=92,
    ),
    # Dim blue-grey ground, a blue stain with weak eosin, soft optics, a noisy camera: a routine microscope.
    Site(
        name="site-c",
        height=144,
        width=144,
        um_per_px=0.174,
        ground=(205, 206, 222),
        eosin=(0.13, 0.30, 0.26),
        purple=(0.46, 0.66, 0.17),
        blue=(0.50, 0.38, 0.06),
        stain_spread=0.15,
        red_cells_per_um2=0.015,
        blur_um=0.20,
        defocus_um=0.22,
        vignetting=0.18,
        tilt=0.10,
        noise=4.0,
        suffix=".jpg",
        jpeg_quality=80,
    ),
)


def random_site(height: int, width: int, um_per_px: float, rng: np.random.Generator) -> Site:
    """A laboratory that there is not: the stain of one of SITES mixed anew, any lamp, optics and camera.

    The ranges were chosen by eye, wider than what photographs of smears show.

    Args:
        height, width: Image size, px.
        um_per_px: Scale of its images.
        rng: Random number generator.
    """
    base = SITES[rng.integers(len(SITES))]
    mixture = np.eye(3) + rng.normal(0, 0.10, (3, 3))  # another camera
    dyes = np.clip(
        [np.array(dye) @ mixture * rng.uniform(0.6, 1.5) for dye in (base.eosin, base.purple, base.blue)], 0, 2
    )
    lamp = rng.uniform(130, 255) * (1 - rng.uniform(0, 0.35) * rng.random(3))
    return replace(
        base,
        name="random",
        height=height,
        width=width,
        um_per_px=um_per_px,
        ground=_rgb(lamp),
        eosin=_rgb(dyes[0]),
        purple=_rgb(dyes[1]),
        blue=_rgb(dyes[2]),
        stain_spread=0.1,
        red_cells_per_um2=float(rng.choice((0.0, 0.005, 0.012, 0.018))),
        red_cell_density=float(np.exp(rng.uniform(np.log(0.7), np.log(3.0)))),
        blur_um=float(rng.uniform(0.1, 0.4)),
        defocus_um=float(rng.uniform(0.0, 0.6)),
        vignetting=float(rng.uniform(0, 0.3)),
        tilt=float(rng.uniform(0, 0.3)),
        noise=float(rng.uniform(0.5, 6)),
    )


def _rgb(values: np.ndarray) -> Rgb:
    red, green, blue = map(float, values)
    return red, green, blue
