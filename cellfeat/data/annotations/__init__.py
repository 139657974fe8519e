"""Read the reference cells that datasets bring, in the formats that label tools write.

    images = read_coco(Path("coco.json"))
    images["a.png"].cells[0].box, images["a.png"].cells[0].mask

COCO files know the sizes of their images and become records at once (`records`). The other formats become sheets of
shapes (`shapes`), and these become records when the image's size is known. Every number passes through `geometry`.
"""

from cellfeat.data.annotations.coco import read_coco
from cellfeat.data.annotations.records import AnnotatedImage, Box, Cell, Rle

__all__ = ["AnnotatedImage", "Box", "Cell", "Rle", "read_coco"]
