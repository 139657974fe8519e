"""The reference cells of a dataset: what its annotations say about the images that are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from cellfeat.core.text import printable
from cellfeat.data.annotations import AnnotatedImage, Box, read_coco
from cellfeat.data.annotations.classes import Wanted, check_one_class, same
from cellfeat.data.annotations.formats import A_FILE_AN_IMAGE, ONE_FILE, READERS, detect_format, label_files
from cellfeat.data.annotations.shapes import Sheet, check_fraction_boxes, classes_of, place
from cellfeat.data.annotations.yolo import NAMES, read_names, read_yolo
from cellfeat.data.file_names import FileNames
from cellfeat.data.images import UnreadableImage, image_orientation, image_size
from cellfeat.data.masks import CATEGORIES, image_entry
from cellfeat.data.spec import AnnotationSource
from cellfeat.data.summary import LeftOut
from cellfeat.errors import CellfeatError


class ReferenceCells:
    """The annotations of a dataset, by image.

    Args:
        source: Where they are.
        folder: The dataset's folder.
        files: Its images: path below the image root to file.
        um_per_px: Micrometres a pixel, None where unknown.
        as_stored: Whether the annotations are known to be given in the stored raster. Otherwise images that EXIF turns
            are left out: most label tools show them turned, and nobody says which of the two the annotations follow.
    """

    def __init__(
        self,
        source: AnnotationSource,
        folder: Path,
        files: Mapping[str, Path],
        um_per_px: float | None = None,
        as_stored: bool = False,
    ) -> None:
        self._source, self._files, self._um_per_px, self._as_stored = source, files, um_per_px, as_stored
        self._path = folder / source.path
        self._names = FileNames(files)
        self._absent: list[str] = []  # names in the annotations of which no image is there

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def of(self, key: str) -> AnnotatedImage:
        """What the annotations say about an image that they mention.

        Raises:
            UnreadableImage: Its size is needed and cannot be read.
            CellfeatError: A box or polygon is empty or outside the image.
        """
        entry = self._entries[key]
        if isinstance(entry, AnnotatedImage):
            return entry
        return place(entry, image_size(self._files[key]), self._wanted)

    def boxes(self, keys: Iterable[str]) -> dict[str, tuple[Box, ...]]:
        """XYXY px boxes of the images that are fully annotated and can be read."""
        found = {}
        for key in keys:
            with suppress(UnreadableImage):
                if key in self and not self._is_turned(key) and not (image := self.of(key)).incomplete:
                    found[key] = tuple(cell.box for cell in image.cells)
        return found

    def _is_turned(self, key: str) -> bool:
        return not self._as_stored and image_orientation(self._files[key]) != 1

    def class_names(self) -> dict[str, set[str]]:
        """The classes of the white cells of each image."""
        found = {}
        for key, entry in self._entries.items():
            parts = entry.cells if isinstance(entry, AnnotatedImage) else entry.shapes
            names = {part.class_name for part in parts if part.class_name is not None}
            found[key] = {name for name in names if self._wanted is None or name in self._wanted}
        return found

    def coco(self, keys: Iterable[str], image_id: Callable[[str], str]) -> tuple[dict[str, Any], LeftOut]:
        """The fully annotated images as a COCO dictionary, and what was left out.

        Args:
            keys: The images.
            image_id: The image id of a key.

        Raises:
            CellfeatError: An annotation does not fit its image.
        """
        coco: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
        left_out = LeftOut()
        for key in keys:
            if key not in self:
                continue
            try:
                number = len(coco["images"]) + 1
                entry = image_entry(number, image_id(key), self._files[key], um_per_px=self._um_per_px)
                if self._is_turned(key):
                    left_out.turned.append(key)
                    continue
                image = self.of(key)
            except UnreadableImage:
                left_out.unreadable += 1
                continue
            if image.size != (entry["height"], entry["width"]):
                raise CellfeatError(
                    f"{self._path}: {key} is {image.size[1]} x {image.size[0]} px there, "
                    f"the file {entry['width']} x {entry['height']} px",
                    "they must agree; was the image turned or resized?",
                )
            if left_out.count(image):
                continue
            coco["images"].append(entry)
            for instance in image.instances:
                number = len(coco["annotations"]) + 1
                coco["annotations"].append({"id": number, "image_id": entry["id"], "category_id": 1, **instance})
        left_out.absent = self._absent
        return coco, left_out

    # --- reading ------------------------------------------------------------------------------------------------------

    @cached_property
    def _entries(self) -> Mapping[str, AnnotatedImage | Sheet]:
        """What the annotations say, by image."""
        if not self._path.exists():
            raise CellfeatError(
                f"{self._path}: no such file or folder of annotations",
                "for a public set run its prepare script, for your own correct the path",
            )
        if self._format == "coco":
            images = read_coco(self._single_file(), self._source.classes)
            return self._present(images.values())
        return self._sheets

    @cached_property
    def _format(self) -> str:
        return detect_format(self._path) if self._source.format == "auto" else self._source.format

    @cached_property
    def _sheets(self) -> dict[str, Sheet]:
        if self._format in ONE_FILE:
            sheets = self._present(ONE_FILE[self._format](self._single_file()))
        else:
            sheets = self._present(self._sheets_of_files())
        check_fraction_boxes(list(sheets.values()))
        return sheets

    @cached_property
    def _wanted(self) -> Wanted | None:
        """The classes that are white cells; None: all."""
        if self._format == "coco":
            return None
        chosen, names = self._source.classes, self._yolo_names or []
        listed = classes_of(list(self._sheets.values()))
        if chosen is None:
            if self._format != "csv":
                check_one_class(listed, str(self._path), "classes")
            return None
        by_number = {str(number): name for number, name in enumerate(names)}
        wanted = Wanted(by_number.get(same(name), str(name)) for name in chosen)
        if listed and not any(name in wanted for name in listed):
            raise CellfeatError(
                f"{self._path}: has no annotation of class {', '.join(str(name) for name in chosen)}; it has "
                f"{printable(', '.join(listed))}",
                "correct classes",
            )
        return wanted

    def _single_file(self) -> Path:
        if self._path.is_file():
            return self._path
        files = label_files(self._path, (".json", ".csv"))
        if len(files) != 1:
            raise CellfeatError(
                f"{self._path}: has {len(files)} files, {self._format} is read from one", "name it in annotations.path"
            )
        return files[0]

    @cached_property
    def _yolo_names(self) -> list[str] | None:
        return read_names(self._path) if self._format == "yolo" else None

    def _sheets_of_files(self) -> Iterable[Sheet]:
        """A sheet a label file; the file's name says which image it belongs to, else the name written in it."""
        suffixes = A_FILE_AN_IMAGE[self._format]
        folder = self._path if self._path.is_dir() else self._path.parent
        files = label_files(folder, suffixes) if self._path.is_dir() else [self._path]
        for path in files:
            own_name = path.relative_to(folder).with_suffix("").as_posix()
            key = self._names.find(own_name)
            if self._format == "yolo":
                if key is not None:
                    yield read_yolo(path, key, self._yolo_names)
                elif path.name != NAMES:
                    self._absent.append(path.relative_to(folder).as_posix())
                continue
            sheet = READERS[self._format](path)
            inside = self._names.find(sheet.file_name)
            if key is not None and inside is not None and key != inside:
                raise CellfeatError(
                    f"{path}: its name says that it belongs to {key}, its content {inside}", "correct one of them"
                )
            yield sheet if key is None else Sheet(key, sheet.where, sheet.shapes, sheet.size)

    def _present(self, entries: Iterable[Any]) -> dict[str, Any]:
        """Entries of the images that are there, by key."""
        found: dict[str, Any] = {}
        for entry in entries:
            name = entry.file_name
            key = self._names.find(name)
            if key is None:
                self._absent.append(name)
            elif key in found:
                raise CellfeatError(
                    f"{self._path}: {found[key].file_name!r} and {name!r} are one file, {key}, which occurs twice",
                    "keep one entry for each file",
                )
            else:
                found[key] = entry
        if self._absent and not found:
            raise CellfeatError(
                f"{self._path}: none of its {len(self._absent)} images is among those of the dataset, first "
                f"{printable(self._absent[0])}",
                "complete the download, or correct the key images or the names",
            )
        return found
