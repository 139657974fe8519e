"""One dataset on disk: its images with their labels, and its reference instances as COCO."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

from cellfeat.core.text import printable
from cellfeat.data.annotations import Box
from cellfeat.data.class_tree import THE_CLASSES, ClassTree, load_classes
from cellfeat.data.image_facts import ImageFacts
from cellfeat.data.images import UnreadableImage, image_orientation
from cellfeat.data.listing import NOT_UNICODE, SYSTEM, Listing, find_images
from cellfeat.data.mask_files import MaskFiles
from cellfeat.data.masks import MaskItem, masks_to_coco
from cellfeat.data.reference import ReferenceCells
from cellfeat.data.slides import file_scale
from cellfeat.data.spec import DatasetSpec, MaskSource
from cellfeat.data.summary import LeftOut, Summary, listed
from cellfeat.data.urls import is_url, local_paths
from cellfeat.data.vocabulary import Vocabulary, classes_of, load_vocabulary
from cellfeat.errors import CellfeatError

log = logging.getLogger(__name__)

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
        group: What must stay on one side of a split, such as the patient; "" where unknown. Names count in a domain.
        metadata: The columns that the dataset keeps of its table, such as slide and stain; "" where unknown.
        bits: As `cellfeat.data.images.read_rgb` takes them; None where the dataset does not say.
    """

    image_id: str
    path: Path
    domain: str
    label: str
    um_per_px: float | None
    boxes: tuple[Box, ...] = ()
    group: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    bits: int | None = None

    @property
    def stored_metadata(self) -> dict[str, str]:
        """What a store keeps beside the image: the column `group`, where it is known, and the metadata."""
        return ({"group": self.group} if self.group else {}) | dict(self.metadata)

    @property
    def identity(self) -> list[Any]:
        """What a store takes from the dataset, as JSON values: digests of listings are made of it."""
        stated = [self.stored_metadata] if self.stored_metadata else []
        return [self.image_id, self.label, self.um_per_px, *stated, *([{"bits": self.bits}] if self.bits else [])]


class Dataset:
    """A dataset, or with `split` a part of it.

    Attributes:
        spec: What the catalogue says about it.
        folder: `<data root>/<name>`.
        split: "train", "val" or None for all; see `split_of`. The part of an image never changes when images are
            added or taken away.
        chosen: Images to use, by their paths below the image root; None for all.
    """

    def __init__(
        self, spec: DatasetSpec, folder: Path, split: str | None = None, chosen: frozenset[str] | None = None
    ) -> None:
        self.spec = spec
        self.folder = folder
        self.split = split
        self.chosen = chosen

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, folder={str(self.folder)!r})"

    @property
    def name(self) -> str:
        """The name with which it is opened, with the split."""
        return f"{self.spec.name}@{self.split}" if self.split else self.spec.name

    def records(self) -> list[ImageRecord]:
        """The images, sorted by image id; deliberate drops are left out and counted in `dropped`.

        Raises:
            CellfeatError: The images are not there, a table is missing or damaged, nothing is left, or the dataset is
                `strict` and not all of it can be used.
        """
        self.check()
        kept, spec, facts = self._kept, self.spec, self._facts
        boxes = self._reference.boxes(kept) if self._reference is not None else {}
        return [
            ImageRecord(
                self._image_id(key),
                path,
                spec.domain,
                self._labels[key] or "",
                spec.um_per_px or file_scale(path),
                boxes.get(key, ()),
                facts.groups.get(key, ""),
                {name: facts.metadata[name].get(key, "") for name in spec.metadata},
                spec.bits,
            )
            for key, path in kept.items()
        ]

    @property
    def dropped(self) -> dict[str, int]:
        """Code to number of images that the vocabulary leaves out on purpose."""
        of_code = [key for key in self._part if self._labels[key] is None and key not in self._disagreed]
        counts = Counter(self._codes[key] for key in of_code)
        return dict(sorted(counts.items()))

    @property
    def left_out(self) -> dict[str, list[str]]:
        """What of the files and tables is not used, reason to names: files, rows without a picture, unknown codes.

        The hidden, cache and thumbnail files of systems do not count.
        """
        codes, groups, _ = self._codes, self._facts.groups, self._facts.metadata  # tables say what they lack once read
        found = {reason: names for reason, names in self._listing.left_out.items() if reason != SYSTEM}
        for table, names in self._facts.absent.items():
            found[f"rows of {table} without a picture"] = names
        for table, names in self._facts.unlisted.items():
            found[f"images that {table} does not list"] = names
        if self.spec.group is not None:
            unlisted = set().union(*self._facts.unlisted.values()) if self.spec.group.column is not None else set()
            found["images without a group"] = [key for key in self._files if key not in groups and key not in unlisted]
        unknown = set(self._vocabulary.unknown(codes.values()))
        found[f"images unlabelled, their code is not in vocabulary {self._vocabulary.name}"] = [
            f"{key} with {code!r}" for key, code in codes.items() if code in unknown
        ]
        return {reason: names for reason, names in found.items() if names}

    def check(self) -> None:
        """Say once what of the files and tables is not used.

        Raises:
            CellfeatError: There is any such thing and the dataset is `strict`.
        """
        found = self.left_out
        if found and self.spec.strict:
            raise CellfeatError(
                f"dataset {self.spec.name} is strict: {', '.join(counted(found))}", "correct that, or leave out strict"
            )
        if found:
            _say(f"dataset {self.spec.name}: {', '.join(counted(found))}", logging.WARNING)

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
        if names := self._listing.left_out.get(NOT_UNICODE):  # COCO holds names as text, and training misses the cells
            raise CellfeatError(
                f"dataset {self.spec.name}: {names[0]} is not valid Unicode ({len(names)} such names)",
                "rename the files to UTF-8",
            )
        self.check()
        coco, summary = self._annotated
        _say(str(summary))
        return coco

    def cell_classes(self) -> list[str]:
        """The class of each annotation of `coco`, in its order; "" where it is not known.

        It is what the annotation itself says, in the vocabulary's words where the vocabulary knows the code. Where
        annotations say nothing, such as masks and files whose only class is "WBC", it is the label of the image.

        Raises:
            CellfeatError: As `coco`.
        """
        coco, _ = self._annotated
        of_image: dict[int, Iterator[str]] = {}
        for image in coco["images"]:
            key = image["image_id"].removeprefix(self._image_id(""))
            label = self._labels[key] or ""
            cells = () if self._reference is None else self._reference.of(key).cells
            of_image[image["id"]] = iter([self._class_of(cell.class_name, label) for cell in cells] or repeat(label))
        return [next(of_image[annotation["image_id"]]) for annotation in coco["annotations"]]

    def _class_of(self, code: str | None, label: str) -> str:
        """The class of a cell that its annotation calls `code`, in an image of this label."""
        if code is None:
            return label
        if not self._vocabulary.unknown([code]):
            return self._vocabulary.translate([code])[0] or ""
        return code.strip() if self._has_several_classes else label or code.strip()

    @cached_property
    def _has_several_classes(self) -> bool:
        return self._reference is not None and len(set().union(*self._reference.class_names().values())) > 1

    def summary(self, read_masks: bool = True) -> Summary:
        """What the dataset holds: images, annotated images, cells, and what was left out and why.

        Args:
            read_masks: Whether mask images are read to count their cells, which takes about 10 ms each.

        Raises:
            CellfeatError: As `records` and `coco`.
        """
        if self.spec.masks is None and self._reference is None:
            return Summary(self.name, len(self._kept), 0, 0, 0, self._dropped_by_code)
        if self.spec.masks is not None and not read_masks:
            masks = self._mask_files(self.spec.masks)
            annotated = sum(masks.find(key) is not None for key in self._kept)
            reasons = LeftOut(absent=masks.without_image()).reasons() | self._dropped_by_code
            return Summary(self.name, len(self._kept), annotated, None, None, reasons)
        return self._annotated[1]

    @property
    def _dropped_by_code(self) -> dict[str, int]:
        reasons = {
            f"images of code {printable(code)}, dropped by the vocabulary": count
            for code, count in self.dropped.items()
        }
        pairs = Counter(self._disagreed.values())
        return reasons | {f"images that one expert calls {a}, the other {b}": n for (a, b), n in sorted(pairs.items())}

    # --- files and labels ---------------------------------------------------------------------------------------------

    def _image_id(self, key: str) -> str:
        return f"{self.spec.name}/{key}"

    @cached_property
    def _listing(self) -> Listing:
        images = self.spec.images
        root = local_paths(images)[0] if is_url(images) else self.folder / images
        if not root.is_dir():
            raise CellfeatError(
                f"dataset {self.spec.name}: no folder {root}; get its images (cellfeat's documentation on datasets), "
                "or set CELLFEAT_DATASETS to the folder that holds the datasets"
            )
        listing = find_images(root, self.spec.pattern, self.spec.exclude)
        if not listing.files:
            left_out = "".join(f"; left out: {one}" for one in counted(listing.left_out))
            raise CellfeatError(
                f"dataset {self.spec.name}: no image in {root} matches {self.spec.pattern!r}{left_out}; "
                "`cellfeat schema dataset` explains both, CELLFEAT_DATASETS names the folder of the datasets"
            )
        return listing

    @property
    def _files(self) -> dict[str, Path]:
        """Every image file of the set, by its path below the image root, sorted."""
        return self._listing.files

    @cached_property
    def _facts(self) -> ImageFacts:
        return ImageFacts(self.spec, self.folder, self._files)

    @cached_property
    def _codes(self) -> dict[str, str]:
        """The label code of every image, "" where it has none."""
        codes = dict(self._facts.codes)
        if self._reference is not None and self.spec.labels.kind in ("annotations", "coco"):
            for key, names in self._reference.class_names().items():
                codes[key] = names.pop() if len(names) == 1 else ""
        return codes

    @cached_property
    def classes(self) -> ClassTree:
        """The classes that its labels may have: the 13, its vocabulary's, and the project's own of its table of them.

        Raises:
            CellfeatError: The table is missing or damaged.
        """
        own = self.spec.labels.classes
        tree = THE_CLASSES if own is None else load_classes(self._own_file(own))
        return classes_of(self.spec.labels.vocabulary, tree)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        name = self.spec.labels.vocabulary
        return load_vocabulary(self._own_file(name) if name.lower().endswith(".csv") else name, self.classes)

    def _own_file(self, name: str) -> Path:
        """A file in the dataset's folder, or else in the data root, where all datasets can share it."""
        return next(
            (path for path in (self.folder / name, self.folder.parent / name) if path.is_file()), self.folder / name
        )

    @cached_property
    def _labels(self) -> dict[str, str | None]:
        """The class of every image of the part: "" if it has none, None if the image is dropped."""
        labels = dict(zip(self._part, self._vocabulary.translate(self._codes[key] for key in self._part)))
        return labels | dict.fromkeys(self._disagreed)

    @cached_property
    def _disagreed(self) -> dict[str, tuple[str, str]]:
        """The images of the part that two experts call different classes, with both codes."""
        second = self._facts.second_codes
        if second is None:
            return {}
        both = [(self._codes[key], second[key]) for key in self._part]
        meant = [self._vocabulary.translate(pair) for pair in both]
        said = [(printable(a) or "nothing", printable(b) or "nothing") for a, b in both]
        return {key: codes for key, codes, (a, b) in zip(self._part, said, meant) if a != b}

    @cached_property
    def _part(self) -> list[str]:
        """The images of the split, or those that were chosen."""
        if self.split is None:
            return [key for key in self._files if self.chosen is None or key in self.chosen]
        groups, domain = self._facts.groups, self.spec.domain
        units = {key: f"{domain}/{groups[key]}" if groups.get(key) else self._image_id(key) for key in self._files}
        part = [key for key, unit in units.items() if split_of(unit) == self.split]
        if not part:
            what = "groups" if groups else "images"
            raise CellfeatError(
                f"dataset {self.name}: none of its {len(set(units.values()))} {what} falls into it; add {what}"
            )
        return part

    @cached_property
    def _kept(self) -> dict[str, Path]:
        """The images of the part without the dropped ones."""
        kept = {key: self._files[key] for key in self._part if self._labels[key] is not None}
        if not kept:
            raise CellfeatError(f"dataset {self.name}: its vocabulary {self.spec.labels.vocabulary} drops every image")
        return kept

    # --- instances ----------------------------------------------------------------------------------------------------

    @cached_property
    def _reference(self) -> ReferenceCells | None:
        source = self.spec.annotation_source
        if source is None:
            return None
        as_stored = self.spec.orientation == "stored"
        return ReferenceCells(source, self.folder, self._files, self.spec.um_per_px, as_stored)

    @cached_property
    def _annotated(self) -> tuple[dict[str, Any], Summary]:
        """The annotated images as COCO, and what was found."""
        if self.spec.masks is not None:
            coco, left_out = self._coco_from_masks(self.spec.masks)
        elif self._reference is not None:
            coco, left_out = self._reference.coco(self._kept, self._image_id)
        else:
            raise CellfeatError(
                f"dataset {self.spec.name} brings no masks, boxes or COCO file: a detector cannot learn from it"
            )
        reasons = left_out.reasons()
        if self.spec.strict and (lost := left_out.lost()):
            raise CellfeatError(
                f"dataset {self.spec.name} is strict: {listed(lost)}", "correct that, or leave out strict"
            )
        if not coco["images"]:
            raise CellfeatError(
                f"dataset {self.name}: none of its {len(self._kept)} images is annotated; left out: "
                f"{listed(reasons) or 'nothing'}",
                "check its annotations",
            )
        for image in coco["images"]:
            image["bits"] = self.spec.bits
        masks = sum("segmentation" in annotation for annotation in coco["annotations"])
        images, cells = len(coco["images"]), len(coco["annotations"])
        return coco, Summary(self.name, len(self._kept), images, cells, masks, reasons | self._dropped_by_code)

    def _mask_files(self, source: MaskSource) -> MaskFiles:
        return MaskFiles(self.folder / source.folder, source.name, self._files)

    def _coco_from_masks(self, source: MaskSource) -> tuple[dict[str, Any], LeftOut]:
        masks = self._mask_files(source)
        left_out, items = LeftOut(absent=masks.without_image()), []
        for key in self._kept:
            mask = masks.find(key)
            if mask is None:
                continue
            if self.spec.orientation != "stored" and _is_turned(self._files[key]):
                left_out.turned.append(key)
                continue
            items.append(MaskItem(self._image_id(key), self._files[key], mask, um_per_px=self.spec.um_per_px))
        if left_out.turned and not items:
            raise CellfeatError(f"dataset {self.name}: left out: {listed(left_out.reasons())}")
        if not items:
            raise CellfeatError(
                f"dataset {self.name}: no mask {source.name!r} in {self.folder / source.folder} for any of "
                f"{len(self._kept)} images, first looked for {masks.place(next(iter(self._kept)))}",
                "correct masks.folder or masks.name",
            )
        return masks_to_coco(items, source.threshold, source.min_area, source.kind), left_out


def _is_turned(image: Path) -> bool:
    with suppress(UnreadableImage):  # which is said where it is read
        return image_orientation(image) != 1
    return False


@cache
def _say(text: str, level: int = logging.INFO) -> None:
    """Log a text once: training and evaluation open the same dataset again and again."""
    log.log(level, text)


def counted(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """Reasons with how often they hold and the first example."""
    return [f"{len(names)} {reason} (first {printable(names[0])})" for reason, names in left_out.items()]


def split_of(unit: str) -> str:
    """ "val" if the SHA-256 of a name, read as a number, is divisible by 5, which is about one in five, else "train".

    Args:
        unit: `<domain>/<group>` of an image whose group is known, else its image id: a group stays on one side.
    """
    number = int(hashlib.sha256(unit.encode()).hexdigest(), 16)
    return "val" if number % 5 == 0 else "train"
