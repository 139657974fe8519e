"""Read the reference cells that datasets bring, in the formats that label tools write.

    images = read_coco(Path("coco.json"))
    images["a.png"].cells[0].box, images["a.png"].cells[0].mask

Whatever the format, a file becomes typed records (`records`), and every number is checked before use (`geometry`).
"""

from cellfeat.data.annotations.box_table import fraction_to_pixels, read_box_table, read_table, read_yolo
from cellfeat.data.annotations.coco import read_coco
from cellfeat.data.annotations.records import AnnotatedImage, Box, Cell, Rle

__all__ = [
    "AnnotatedImage",
    "Box",
    "Cell",
    "Rle",
    "fraction_to_pixels",
    "read_box_table",
    "read_coco",
    "read_table",
    "read_yolo",
]
