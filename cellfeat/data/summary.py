"""What was found on opening a dataset, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cellfeat.core.text import printable
from cellfeat.data.annotations import AnnotatedImage


@dataclass(frozen=True)
class Summary:
    """What was found on opening a dataset.

    Attributes:
        dataset: Its name, with the split.
        images: Images of it.
        annotated: Images in which all white cells are annotated; only these serve training and evaluation.
        cells: Reference cells in these; None where they lie in mask images that were not read.
        masks: How many of the cells have a mask, not a box alone; None as above.
        left_out: What was left out, reason to number.
    """

    dataset: str
    images: int
    annotated: int
    cells: int | None
    masks: int | None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        cells = "" if self.cells is None else f", {self.cells} reference cells, {self.masks} with a mask"
        left_out = f"; left out: {listed(self.left_out)}" if self.left_out else ""
        return f"{self.dataset}: {self.images} images, {self.annotated} annotated{cells}{left_out}"


@dataclass
class LeftOut:
    """Counts what of a dataset's annotations is not used, and why.

    Attributes:
        absent: Names in the annotations of which no image is there.
        unreadable: Annotated images that cannot be read.
        turned: Annotated images that EXIF turns, the annotations perhaps with them.
        incomplete: Annotations of white cells that cannot be used, by reason.
        incomplete_images: Images that have such annotations.
        other_classes: Annotations of classes that were not asked for.
    """

    absent: list[str] = field(default_factory=list)
    unreadable: int = 0
    turned: list[str] = field(default_factory=list)
    incomplete: Counter[str] = field(default_factory=Counter)
    incomplete_images: int = 0
    other_classes: Counter[str] = field(default_factory=Counter)

    def count(self, image: AnnotatedImage) -> bool:
        """Count what is left out of an image; returns whether the whole image is."""
        self.other_classes.update(image.other_classes)
        self.incomplete.update(image.incomplete)
        self.incomplete_images += bool(image.incomplete)
        return bool(image.incomplete)

    def lost(self) -> dict[str, int]:
        """Reason to number, without zeros, of what nobody chose to leave out."""
        found = {
            **self.incomplete,
            "images with such annotations, which count as not annotated": self.incomplete_images,
            "annotated images that cannot be read": self.unreadable,
        }
        if self.absent:
            found[
                f"annotated images that are not there, or several of the name (first {printable(self.absent[0])})"
            ] = len(self.absent)
        if self.turned:
            what = "turn the files, or say orientation: stored if the annotations follow the stored raster"
            found[f"annotated images that EXIF turns ({what}; first {printable(self.turned[0])})"] = len(self.turned)
        return {reason: count for reason, count in found.items() if count}

    def reasons(self) -> dict[str, int]:
        """Reason to number, without zeros."""
        others = {
            f"annotations of class {printable(name)}": count for name, count in sorted(self.other_classes.items())
        }
        return self.lost() | others


def listed(reasons: Mapping[str, int]) -> str:
    """Reasons and their numbers in one line."""
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())
