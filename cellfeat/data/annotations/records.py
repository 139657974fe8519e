"""What every reader of annotations gives: checked, typed records of images and their cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

Box = tuple[float, float, float, float]
Size = tuple[int, int]


class Rle(TypedDict):
    """A mask as COCO's compressed RLE.

    Attributes:
        size: [height, width] of the image in px.
        counts: The runs; they sum to height x width.
    """

    size: list[int]
    counts: str


@dataclass(frozen=True)
class Cell:
    """One reference cell.

    Attributes:
        box: XYXY px, inside the image.
        mask: The cell's pixels, None where the file has a box alone.
        area: Px of the mask, or of the box where there is no mask.
        class_name: Its class as the file writes it, None where the file has no classes.
        where: File and line, or file and id.
    """

    box: Box
    mask: Rle | None
    area: float
    class_name: str | None
    where: str

    def as_coco(self) -> dict[str, Any]:
        """The cell as values of a COCO annotation: bbox XYWH px, area, iscrowd 0, segmentation where it has a mask."""
        x0, y0, x1, y1 = self.box
        mask = {"segmentation": self.mask} if self.mask else {}
        return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": self.area, "iscrowd": 0, **mask}


@dataclass(frozen=True)
class AnnotatedImage:
    """What a file says about one image.

    Attributes:
        file_name: The image's name as the file writes it.
        size: (height, width) in px.
        cells: Its white blood cells.
        incomplete: Annotations of white cells that cannot be used, reason to number: a crowd (several cells without a
            border between them), a point. An image that has any is not fully annotated.
        other_classes: Number of annotations by class that were not asked for, such as red cells.
    """

    file_name: str
    size: Size
    cells: tuple[Cell, ...] = ()
    incomplete: Mapping[str, int] = field(default_factory=Counter)
    other_classes: Mapping[str, int] = field(default_factory=Counter)

    @property
    def instances(self) -> list[dict[str, Any]]:
        """The cells as values of COCO annotations; see `Cell.as_coco`."""
        return [cell.as_coco() for cell in self.cells]
