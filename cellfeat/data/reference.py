"""The reference cells of a dataset: what its annotations say about the images that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from cellfeat.data.annotations import (
    AnnotatedImage,
    Box,
    Cell,
    fraction_to_pixels,
    read_box_table,
    read_coco,
    read_yolo,
)
from cellfeat.data.annotations.geometry import cut
from cellfeat.data.file_names import FileNames
from cellfeat.data.images import image_size
from cellfeat.data.spec import BoxSource, DatasetSpec
from cellfeat.errors import CellfeatError


@dataclass(frozen=True)
class Summary:
    """What was found on opening a dataset.

    Attributes:
        dataset: Its name, with the split.
        images: Images of it.
        annotated: Images in which all white cells are annotated; only these serve training and evaluation.
        cells: Reference cells in these.
        masks: How many of the cells have a mask, not a box alone.
        left_out: What was left out, reason to number.
    """

    dataset: str
    images: int
    annotated: int
    cells: int
    masks: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        return (
            f"{self.dataset}: {self.images} images, {self.annotated} annotated, {self.cells} reference cells, "
            f"{self.masks} with a mask{'; left out: ' if left_out else ''}{left_out}"
        )


class ReferenceCells:
    """The annotations of a dataset's COCO file or boxes, by image.

    Args:
        spec: The dataset's description.
        folder: Its folder.
        files: Its images: path below the image root to file.
    """

    def __init__(self, spec: DatasetSpec, folder: Path, files: Mapping[str, Path]) -> None:
        self._spec, self._folder, self._files = spec, folder, files
        self._names = FileNames(files)
        self.absent: list[str] = []
        """Names in the annotations of which no image is there."""

    def __contains__(self, key: str) -> bool:
        return key in (self._coco if self._spec.coco else self._boxes[0])

    def of(self, key: str) -> AnnotatedImage:
        """What the annotations say about an image that they mention.

        Raises:
            UnreadableImage: Its size is needed and cannot be read.
            CellfeatError: A box that is empty or outside the image.
        """
        if self._spec.coco:
            return self._coco[key]
        size = image_size(self._files[key])
        table, fractions = self._boxes
        cells = []
        for box in table[key]:
            where = f"{self._spec.name}/{key}"
            xyxy = cut(fraction_to_pixels(box, *size) if fractions else box, size, where)
            cells.append(Cell(xyxy, None, (xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1]), None, where))
        return AnnotatedImage(key, size, tuple(cells))

    def class_names(self) -> dict[str, set[str | None]]:
        """The classes of the cells of each image of the COCO file."""
        return {key: {cell.class_name for cell in image.cells} for key, image in self._coco.items()}

    @cached_property
    def _coco(self) -> dict[str, AnnotatedImage]:
        path = self._folder / str(self._spec.coco)
        if not path.is_file():
            raise CellfeatError(f"{path}: no such file; datasets/README.md says which prepare script makes it")
        images = read_coco(path, self._spec.coco_categories)
        return {key: images[name] for key, name in self._present(images, path).items()}

    @cached_property
    def _boxes(self) -> tuple[Mapping[str, list[Box]], bool]:
        """Boxes of each annotated image, and whether they are fractions."""
        source = self._spec.boxes
        assert isinstance(source, BoxSource)
        if source.kind == "csv":
            path = self._folder / str(source.file)
            table, fractions = read_box_table(path)
            return {key: table[name] for key, name in self._present(table, path).items()}, fractions
        folder = self._folder / str(source.folder)
        if not folder.is_dir():
            raise CellfeatError(f"dataset {self._spec.name}: no folder {folder} of boxes; see datasets/README.md")
        texts = {key: folder / PurePosixPath(key).with_suffix(".txt") for key in self._files}
        return {key: read_yolo(text, source.classes) for key, text in texts.items() if text.is_file()}, True

    def _present(self, names: Mapping[str, object], source: Path) -> dict[str, str]:
        """Key to written name, of the written names that mean a file."""
        found: dict[str, str] = {}
        for name in names:
            key = self._names.find(name)
            if key is None:
                self.absent.append(name)
            elif key in found:
                raise CellfeatError(
                    f"{source}: {found[key]!r} and {name!r} are one file, {key}, which occurs twice",
                    "keep one entry for each file",
                )
            else:
                found[key] = name
        if names and not found:
            raise CellfeatError(
                f"{source}: none of its {len(names)} images is in {self._folder / self._spec.images}, first "
                f"{self.absent[0]}",
                "complete the download, or correct the key images or the names",
            )
        return found


@dataclass
class LeftOut:
    """Counts what of a dataset's annotations is not used, and why.

    Attributes:
        absent: Names in the annotations of which no image is there.
        unreadable: Annotated images that cannot be read.
        crowds: Crowd annotations, a number for each image that has any.
        other_classes: Annotations of classes that were not asked for.
    """

    absent: list[str] = field(default_factory=list)
    unreadable: int = 0
    crowds: list[int] = field(default_factory=list)
    other_classes: Counter[str] = field(default_factory=Counter)

    def count(self, image: AnnotatedImage) -> bool:
        """Count what is left out of an image; returns whether the whole image is."""
        self.other_classes.update(image.other_classes)
        if image.crowds:
            self.crowds.append(image.crowds)
        return image.crowds > 0

    def reasons(self) -> dict[str, int]:
        """Reason to number, without zeros."""
        found = {
            f"crowd annotations (iscrowd 1; their {len(self.crowds)} images count as not annotated)": sum(self.crowds),
            **{f"annotations of class {name}": count for name, count in sorted(self.other_classes.items())},
            f"annotated images that are not there (first {self.absent[0]})" if self.absent else "": len(self.absent),
            "annotated images that cannot be read": self.unreadable,
        }
        return {reason: count for reason, count in found.items() if count}
