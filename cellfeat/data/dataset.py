"""One dataset on disk: its images with their labels, and its reference instances as COCO."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from cellfeat.data.annotations import (
    Box,
    CocoImage,
    fraction_to_pixels,
    read_box_table,
    read_coco,
    read_table,
    read_yolo,
)
from cellfeat.data.images import UnreadableImage, image_size
from cellfeat.data.masks import CATEGORIES, MaskItem, box_annotation, image_entry, masks_to_coco
from cellfeat.data.spec import BoxSource, DatasetSpec, MaskSource
from cellfeat.data.vocabulary import load_vocabulary
from cellfeat.errors import CellfeatError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
SPLITS = ("train", "val")


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset.

    Attributes:
        image_id: "<dataset>/<path below the image root, with forward slashes>".
        path: The file.
        domain: The site.
        label: One of the 13 classes, "" where unknown.
        um_per_px: Micrometres a pixel, None where unknown.
        boxes: Reference boxes, XYXY in px of the image, where the dataset brings boxes or a COCO file; else empty.
    """

    image_id: str
    path: Path
    domain: str
    label: str
    um_per_px: float | None
    boxes: tuple[Box, ...] = ()


class Dataset:
    """A dataset, or with `split` a part of it.

    Attributes:
        spec: What the catalogue says about it.
        folder: `<data root>/<name>`.
        split: "train", "val" or None for all. An image belongs to val (about 20 %) if the SHA-256 of its image id,
            read as a number, is divisible by 5; this never changes when images are added or taken away.
    """

    def __init__(self, spec: DatasetSpec, folder: Path, split: str | None = None):
        self.spec = spec
        self.folder = folder
        self.split = split

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, folder={str(self.folder)!r})"

    @property
    def name(self) -> str:
        """The name with which it is opened, with the split."""
        return f"{self.spec.name}@{self.split}" if self.split else self.spec.name

    def records(self) -> list[ImageRecord]:
        """The images, sorted by image id; deliberate drops are left out and counted in `dropped`.

        Raises:
            CellfeatError: The images are not there, a label file is missing or names an image that is missing, a code
                is not in the vocabulary, or nothing is left.
        """
        kept, spec = self._kept, self.spec
        boxes = self._reference_boxes()
        return [
            ImageRecord(
                self._image_id(key), path, spec.domain, self._labels[key] or "", spec.um_per_px, boxes.get(key, ())
            )
            for key, path in kept.items()
        ]

    @property
    def dropped(self) -> dict[str, int]:
        """Code to number of images that the vocabulary leaves out on purpose."""
        counts = Counter(self._codes[key] for key in self._part if self._labels[key] is None)
        return dict(sorted(counts.items()))

    def coco(self) -> dict[str, Any]:
        """The annotated images as a class-agnostic COCO dictionary.

        Images without an annotation source of their own (no mask file, not listed in the COCO file or table) are left
        out: nobody looked for cells in them. Sources: the dataset's masks, COCO file or boxes; boxes bring annotations
        without a segmentation.

        Returns:
            As `cellfeat.data.masks.masks_to_coco`; `file_name` is an absolute path.

        Raises:
            CellfeatError: The dataset brings no masks and no boxes, a source is missing or damaged, a source names an
                image that is missing, or sizes differ.
        """
        if self.spec.masks:
            return self._coco_from_masks(self.spec.masks)
        if self.spec.coco:
            return self._coco_from_file()
        if self.spec.boxes:
            return self._coco_from_boxes()
        raise CellfeatError(
            f"dataset {self.spec.name} brings no masks, boxes or COCO file: a detector cannot learn from it"
        )

    # --- files and labels ---------------------------------------------------------------------------------------------

    def _image_id(self, key: str) -> str:
        return f"{self.spec.name}/{key}"

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Every image file of the set, by its path below the image root, sorted."""
        root = self.folder / self.spec.images
        if not root.is_dir():
            raise CellfeatError(
                f"dataset {self.spec.name}: no folder {root}; get the images as datasets/README.md says, "
                "or set CELLFEAT_DATASETS to the folder that holds the datasets"
            )
        paths = (path for path in root.glob(self.spec.pattern) if path.suffix.lower() in SUFFIXES)
        found = {path.relative_to(root).as_posix(): path for path in paths if not path.name.startswith(".")}
        if not found:
            raise CellfeatError(
                f"dataset {self.spec.name}: no image in {root} matches {self.spec.pattern!r}; datasets/README.md shows "
                "the layout, CELLFEAT_DATASETS names the folder that holds the datasets"
            )
        return dict(sorted(found.items()))

    @cached_property
    def _codes(self) -> dict[str, str]:
        """The label code of every image, "" where it has none."""
        source = self.spec.labels
        codes = dict.fromkeys(self._files, "")
        if source.kind == "folder":
            codes = {key: PurePosixPath(key).parts[0] if "/" in key else "" for key in self._files}
        elif source.kind == "csv":
            codes.update(self._codes_in_table())
        elif source.kind == "coco":
            for key, image in self._coco_file.items():
                names = set(image.categories)
                codes[key] = names.pop() if len(names) == 1 else ""
        return codes

    def _codes_in_table(self) -> dict[str, str]:
        source = self.spec.labels
        path = self.folder / str(source.file)
        rows, columns = read_table(path)
        for column in (source.file_column, source.code_column):
            if column not in columns:
                raise CellfeatError(f"{path}: no column {column!r}; it has {', '.join(columns)}")
        keys = [self._key(row[source.file_column]) for row in rows]
        if twice := [key for key, count in Counter(keys).items() if count > 1]:
            raise CellfeatError(
                f"{path}: {twice[0]} is listed twice ({len(twice)} such images); keep one line for each"
            )
        self._check_present(keys, path)
        return {key: row[source.code_column] for key, row in zip(keys, rows)}

    @cached_property
    def _labels(self) -> dict[str, str | None]:
        """The class of every image of the part: "" if it has none, None if the image is dropped."""
        name = self.spec.labels.vocabulary
        vocabulary = load_vocabulary(self.folder / name if name.endswith(".csv") else name)
        codes = [self._codes[key] for key in self._part]
        return dict(zip(self._part, vocabulary.harmonise(codes, f"dataset {self.spec.name}")))

    @cached_property
    def _part(self) -> list[str]:
        """The images of the split."""
        if self.split is None:
            return list(self._files)
        part = [key for key in self._files if split_of(self._image_id(key)) == self.split]
        if not part:
            raise CellfeatError(f"dataset {self.name}: none of its {len(self._files)} images falls into it; add images")
        return part

    @cached_property
    def _kept(self) -> dict[str, Path]:
        """The images of the part without the dropped ones."""
        kept = {key: self._files[key] for key in self._part if self._labels[key] is not None}
        if not kept:
            raise CellfeatError(f"dataset {self.name}: its vocabulary {self.spec.labels.vocabulary} drops every image")
        return kept

    def _key(self, file_name: str) -> str:
        return PurePosixPath(file_name.strip().replace("\\", "/")).as_posix()

    def _check_present(self, keys: Any, source: Path) -> None:
        if absent := [key for key in keys if key not in self._files]:
            raise CellfeatError(
                f"{source}: {len(absent)} of its images are not in {self.folder / self.spec.images}, "
                f"first {absent[0]}; complete the download or make the file anew (datasets/README.md)"
            )

    # --- instances ----------------------------------------------------------------------------------------------------

    @cached_property
    def _coco_file(self) -> dict[str, CocoImage]:
        path = self.folder / str(self.spec.coco)
        if not path.is_file():
            raise CellfeatError(f"{path}: no such file; datasets/README.md says which prepare script makes it")
        images = {self._key(name): image for name, image in read_coco(path, self.spec.coco_categories).items()}
        self._check_present(images, path)
        return images

    @cached_property
    def _boxes(self) -> tuple[Mapping[str, list[Box]], bool]:
        """Boxes of each annotated image, and whether they are fractions."""
        source = self.spec.boxes
        assert isinstance(source, BoxSource)
        if source.kind == "csv":
            path = self.folder / str(source.file)
            table, fractions = read_box_table(path)
            table = {self._key(name): boxes for name, boxes in table.items()}
            self._check_present(table, path)
            return table, fractions
        folder = self.folder / str(source.folder)
        if not folder.is_dir():
            raise CellfeatError(f"dataset {self.spec.name}: no folder {folder} of boxes; see datasets/README.md")
        texts = {key: folder / PurePosixPath(key).with_suffix(".txt") for key in self._files}
        return {key: read_yolo(text, source.classes) for key, text in texts.items() if text.is_file()}, True

    def _boxes_in_pixels(self, key: str, height: int, width: int) -> list[Box]:
        table, fractions = self._boxes
        boxes = table[key]
        boxes = [fraction_to_pixels(box, height, width) for box in boxes] if fractions else boxes
        if empty := [box for box in boxes if box[2] <= box[0] or box[3] <= box[1]]:
            raise CellfeatError(
                f"{self._image_id(key)}: box {empty[0]} (XYXY px) is empty or outside the image; mend it"
            )
        return boxes

    def _reference_boxes(self) -> dict[str, tuple[Box, ...]]:
        """XYXY px boxes of the kept images that have them; an image that cannot be read has none."""
        found: dict[str, tuple[Box, ...]] = {}
        if self.spec.coco:
            for key, image in self._coco_file.items():
                found[key] = tuple((x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in image.instances))
        elif self.spec.boxes:
            for key in self._kept.keys() & self._boxes[0].keys():
                try:
                    height, width = image_size(self._files[key])
                except UnreadableImage:
                    continue
                found[key] = tuple(self._boxes_in_pixels(key, height, width))
        return found

    def _coco_from_masks(self, source: MaskSource) -> dict[str, Any]:
        folder = self.folder / source.folder
        masks = {key: folder / mask_name(key, source.name) for key in self._kept}
        items = [
            MaskItem(self._image_id(key), self._files[key], mask, um_per_px=self.spec.um_per_px)
            for key, mask in masks.items()
            if mask.is_file()
        ]
        if not items:
            raise CellfeatError(
                f"dataset {self.name}: no mask {source.name!r} in {folder} for any of {len(masks)} images, "
                f"first looked for {next(iter(masks.values()))}; correct masks.folder or masks.name"
            )
        return masks_to_coco(items, source.threshold, source.min_area)

    def _coco_from_file(self) -> dict[str, Any]:
        coco = self._empty_coco(key for key in self._kept if key in self._coco_file)
        for entry, key in zip(coco["images"], (key for key in self._kept if key in self._coco_file)):
            image = self._coco_file[key]
            if image.size != (entry["height"], entry["width"]):
                raise CellfeatError(
                    f"{self.folder / str(self.spec.coco)}: {key} is {image.size[1]} x {image.size[0]} px there, "
                    f"the file {entry['width']} x {entry['height']} px; they must agree"
                )
            for instance in image.instances:
                number = len(coco["annotations"]) + 1
                coco["annotations"].append({"id": number, "image_id": entry["id"], "category_id": 1, **instance})
        return coco

    def _coco_from_boxes(self) -> dict[str, Any]:
        keys = [key for key in self._kept if key in self._boxes[0]]
        coco = self._empty_coco(keys)
        for entry, key in zip(coco["images"], keys):
            for box in self._boxes_in_pixels(key, entry["height"], entry["width"]):
                coco["annotations"].append(box_annotation(len(coco["annotations"]) + 1, entry["id"], box))
        return coco

    def _empty_coco(self, keys: Any) -> dict[str, Any]:
        """A COCO dictionary with the images of these keys, in their order, and no annotations yet."""
        images = [
            image_entry(number, self._image_id(key), self._files[key], um_per_px=self.spec.um_per_px)
            for number, key in enumerate(keys, start=1)
        ]
        if not images:
            raise CellfeatError(f"dataset {self.name}: none of its images is annotated; check its boxes or COCO file")
        return {"images": images, "annotations": [], "categories": CATEGORIES}


def split_of(image_id: str) -> str:
    """ "val" for about one image in five, else "train"; depends on the image id alone."""
    number = int(hashlib.sha256(image_id.encode()).hexdigest(), 16)
    return "val" if number % 5 == 0 else "train"


def mask_name(key: str, pattern: str) -> str:
    """Path of the mask of an image: `{stem}` is its name without suffix, `{number}` the digits at the stem's end."""
    path = PurePosixPath(key)
    digits = path.stem[len(path.stem.rstrip("0123456789")) :]
    name = pattern.replace("{stem}", path.stem).replace("{number}", digits)
    return (path.parent / name).as_posix()
