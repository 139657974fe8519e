"""The thirteen classes of white blood cell as a haematologist describes them.

A class is a recipe: how large, what nucleus, what chromatin, what cytoplasm, which granules. Amounts of dye are
(eosin, purple, blue) as defined in `sites`; sizes are those of cells spread on a dried smear. Amounts and ranges were
chosen by eye, beside photographs of smears.
"""

from __future__ import annotations

from dataclasses import dataclass

from cellfeat.data.synthetic.nuclei import Nucleus, band_nucleus, bean_nucleus, lobed_nucleus, round_nucleus
from cellfeat.data.synthetic.shapes import Range

Dyes = tuple[float, float, float]


@dataclass(frozen=True)
class Granules:
    """Granules of one kind: how many per µm² of cell, radius in µm, dye, and whether they also cover the nucleus."""

    per_um2: Range
    radius: Range
    dyes: Dyes
    over_nucleus: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """What one class looks like.

    Attributes:
        diameter: Range of the cell's diameter, µm.
        nucleus: Draws the nucleus.
        chromatin: Dyes of the chromatin.
        clumps: Contrast of coarse chromatin (0.65 µm grains), 0..1.
        grain: Contrast of fine chromatin (0.3 µm grains), 0..1.
        cytoplasm: Dyes of the cytoplasm; a second set gives the other end of what is seen from cell to cell.
        nucleoli: Range of their number.
        rim: How much deeper the cytoplasm stains at the cell's edge, as a fraction.
        halo: How much paler it stains around the nucleus, as a fraction.
        vacuoles: Range of their number.
        granules: Kinds of granules.
        roughness: Irregularity of the cell's outline.
        aspect: Range of long axis over short axis.
    """

    diameter: Range
    nucleus: Nucleus
    chromatin: Dyes
    clumps: float
    grain: float
    cytoplasm: tuple[Dyes, Dyes]
    nucleoli: tuple[int, int] = (0, 0)
    rim: float = 0.0
    halo: float = 0.0
    vacuoles: tuple[int, int] = (0, 0)
    granules: tuple[Granules, ...] = ()
    roughness: float = 0.02
    aspect: Range = (1.0, 1.12)


DENSE: Dyes = (0.0, 1.0, 0.25)
OPEN: Dyes = (0.0, 0.74, 0.14)
LILAC_DUST = Granules((1.2, 2.2), (0.09, 0.16), (0.10, 0.46, 0.06))
PALE_PINK: tuple[Dyes, Dyes] = ((0.14, 0.07, 0.02), (0.10, 0.09, 0.08))

RECIPES: dict[str, Recipe] = {
    "basophil": Recipe(
        diameter=(10.5, 13.0),
        nucleus=lobed_nucleus((0.6, 0.4), 0.42),
        chromatin=(0.0, 0.72, 0.16),
        clumps=0.14,
        grain=0.12,
        cytoplasm=((0.10, 0.16, 0.05), (0.08, 0.12, 0.12)),
        granules=(Granules((1.8, 2.8), (0.22, 0.38), (0.0, 1.10, 0.50), over_nucleus=0.85),),
        roughness=0.03,
    ),
    "blast": Recipe(
        diameter=(13.0, 17.0),
        nucleus=round_nucleus((0.80, 0.88), (0.03, 0.15), (1.0, 1.2), notch=0.12),
        chromatin=OPEN,
        clumps=0.06,
        grain=0.21,
        cytoplasm=((0.0, 0.14, 0.50), (0.0, 0.10, 0.36)),
        nucleoli=(2, 4),
        rim=0.25,
        roughness=0.035,
        aspect=(1.0, 1.2),
    ),
    "eosinophil": Recipe(
        diameter=(12.5, 15.0),
        nucleus=lobed_nucleus((0.8, 0.2), 0.36),
        chromatin=(0.0, 0.92, 0.18),
        clumps=0.28,
        grain=0.15,
        cytoplasm=((0.26, 0.10, 0.02), (0.22, 0.10, 0.08)),
        granules=(Granules((2.6, 3.4), (0.30, 0.44), (0.82, 0.10, 0.0)),),
    ),
    "erythroblast": Recipe(
        diameter=(8.5, 11.0),
        nucleus=round_nucleus((0.52, 0.66), (0.0, 0.16), (1.0, 1.1)),
        chromatin=(0.0, 1.12, 0.45),
        clumps=0.34,
        grain=0.09,
        cytoplasm=((0.30, 0.06, 0.16), (0.10, 0.10, 0.42)),
    ),
    "lymphocyte": Recipe(
        diameter=(8.5, 10.8),
        nucleus=round_nucleus((0.82, 0.90), (0.02, 0.12), (1.0, 1.12), notch=0.12),
        chromatin=DENSE,
        clumps=0.31,
        grain=0.09,
        cytoplasm=((0.0, 0.08, 0.45), (0.0, 0.03, 0.30)),
        rim=0.15,
        roughness=0.025,
    ),
    "lymphocyte_atypical": Recipe(
        diameter=(13.0, 17.5),
        nucleus=round_nucleus((0.54, 0.64), (0.08, 0.28), (1.1, 1.5), notch=0.25),
        chromatin=(0.0, 0.88, 0.20),
        clumps=0.28,
        grain=0.12,
        cytoplasm=((0.0, 0.05, 0.34), (0.0, 0.02, 0.22)),
        rim=0.9,
        halo=0.3,
        roughness=0.08,
        aspect=(1.05, 1.35),
    ),
    "metamyelocyte": Recipe(
        diameter=(12.0, 15.0),
        nucleus=bean_nucleus((0.60, 0.68), (0.40, 0.58), 0.5),
        chromatin=(0.0, 0.88, 0.16),
        clumps=0.28,
        grain=0.15,
        cytoplasm=((0.14, 0.10, 0.05), (0.10, 0.12, 0.12)),
        granules=(LILAC_DUST,),
    ),
    "monocyte": Recipe(
        diameter=(15.0, 19.0),
        nucleus=bean_nucleus((0.62, 0.70), (0.25, 0.60), 0.4, (1.1, 1.3)),
        chromatin=(0.0, 0.70, 0.12),
        clumps=0.17,
        grain=0.26,
        cytoplasm=((0.06, 0.08, 0.24), (0.04, 0.13, 0.32)),
        vacuoles=(2, 9),
        granules=(Granules((0.3, 0.6), (0.08, 0.13), (0.05, 0.3, 0.1)),),
        roughness=0.06,
        aspect=(1.0, 1.25),
    ),
    "myelocyte": Recipe(
        diameter=(12.5, 16.5),
        nucleus=round_nucleus((0.60, 0.70), (0.15, 0.30), (1.05, 1.3)),
        chromatin=(0.0, 0.84, 0.16),
        clumps=0.22,
        grain=0.15,
        cytoplasm=((0.10, 0.12, 0.16), (0.06, 0.12, 0.26)),
        halo=0.25,
        granules=(Granules((1.4, 2.4), (0.10, 0.18), (0.06, 0.55, 0.10)),),
        roughness=0.03,
    ),
    "neutrophil_band": Recipe(
        diameter=(11.5, 14.5),
        nucleus=band_nucleus,
        chromatin=(0.0, 0.98, 0.20),
        clumps=0.28,
        grain=0.12,
        cytoplasm=PALE_PINK,
        granules=(LILAC_DUST,),
    ),
    "neutrophil_segmented": Recipe(
        diameter=(11.5, 14.5),
        nucleus=lobed_nucleus((0.08, 0.47, 0.33, 0.12), 0.32),
        chromatin=(0.0, 1.0, 0.22),
        clumps=0.28,
        grain=0.12,
        cytoplasm=PALE_PINK,
        granules=(LILAC_DUST,),
    ),
    "promyelocyte": Recipe(
        diameter=(15.5, 19.5),
        nucleus=round_nucleus((0.66, 0.76), (0.12, 0.24), (1.0, 1.25)),
        chromatin=(0.0, 0.72, 0.14),
        clumps=0.08,
        grain=0.21,
        cytoplasm=((0.0, 0.16, 0.40), (0.0, 0.16, 0.28)),
        nucleoli=(1, 2),
        halo=0.4,
        granules=(Granules((1.5, 2.8), (0.14, 0.26), (0.06, 0.90, 0.18), over_nucleus=0.35),),
        roughness=0.04,
        aspect=(1.0, 1.2),
    ),
    "smudge_cell": Recipe(
        diameter=(11.0, 17.0),
        nucleus=round_nucleus((1.0, 1.0)),  # a bare, crushed nucleus: see cells.py
        chromatin=(0.09, 0.52, 0.05),
        clumps=0.16,
        grain=0.18,
        cytoplasm=((0.06, 0.30, 0.02), (0.04, 0.22, 0.04)),
        roughness=0.16,
        aspect=(1.1, 1.7),
    ),
}
