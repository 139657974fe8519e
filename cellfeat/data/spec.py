"""What the catalogue says about one dataset: a checked YAML file."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cellfeat.core.pattern import compile_pattern
from cellfeat.core.text import printable, read_text
from cellfeat.core.yaml_text import parse_yaml
from cellfeat.data.outside import check_inside
from cellfeat.errors import CellfeatError

InnerPath = Annotated[str, AfterValidator(check_inside)]
"""A path below the dataset's folder, as written: links within the folder may lead elsewhere."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelSource(_Strict):
    """Where the label of an image comes from.

    Attributes:
        kind: `folder`: the first folder below the image root is the code; `csv`: a table of files and codes;
            `annotations` (or `coco`): the class of the image's annotations, where all have the same; `none`: no labels.
        file: The table, for `csv`.
        file_column: Its column of image files, relative to the image root.
        code_column: Its column of codes.
        second_code_column: Of a table labelled twice, as Raabin-WBC's cropped cells are by two experts: its column of
            the other's codes. Images that the two call different classes are left out, and said.
        vocabulary: Name of a vocabulary, or a CSV file `code,class,note` in the dataset's folder or in the data root.
        classes: A CSV file `class,parent,note` of the project's own classes, in the same places; the 13 if None.
    """

    kind: Literal["none", "folder", "csv", "annotations", "coco"] = "none"
    file: InnerPath | None = None
    file_column: str = "file"
    code_column: str = "class"
    second_code_column: str | None = None
    vocabulary: InnerPath = "harmonised"
    classes: InnerPath | None = None

    @model_validator(mode="after")
    def _csv_has_a_file(self) -> LabelSource:
        if (self.kind == "csv") != (self.file is not None):
            raise ValueError("labels: `file` belongs to kind csv, and kind csv needs it")
        if self.second_code_column is not None and self.kind != "csv":
            raise ValueError("labels: `second_code_column` belongs to kind csv")
        return self


class MaskSource(_Strict):
    """A folder of mask images, one an image, in the same sub-folders as the images.

    Attributes:
        folder: The folder.
        name: Name of the mask of an image; `{stem}` stands for the image's name without suffix, `{number}` for the
            digits at its end.
        kind: `labels`: each value but 0 is one cell, as cellpose writes masks; `foreground`: each connected component
            above the threshold is one; `auto`: labels for masks of more than 8 bits that look like it, else foreground.
        threshold: Of foreground: a pixel belongs to a white blood cell if its grey value (0-255) is greater.
        min_area: Cells of fewer pixels are no cells.
    """

    folder: InnerPath
    name: InnerPath = "{stem}.png"
    kind: Literal["auto", "foreground", "labels"] = "auto"
    threshold: int = Field(default=127, ge=0, le=254)
    min_area: int = Field(default=100, ge=1)


class BoxSource(_Strict):
    """Bounding boxes without masks.

    Attributes:
        kind: `csv`: one table with the column `file` (relative to the image root) and either `x_center`, `y_center`,
            `width`, `height` as fractions of the image, or `x0`, `y0`, `x1`, `y1` in px; `yolo`: a folder of .txt files
            with lines `class x_center y_center width height`, fractions too.
        file: The table, for `csv`.
        folder: The folder, for `yolo`.
        classes: Which YOLO classes are white blood cells.
    """

    kind: Literal["csv", "yolo"]
    file: InnerPath | None = None
    folder: InnerPath | None = None
    classes: tuple[int, ...] = (0,)

    @model_validator(mode="after")
    def _has_its_source(self) -> BoxSource:
        if (self.kind == "csv") != (self.file is not None) or (self.kind == "yolo") != (self.folder is not None):
            raise ValueError("boxes: kind csv needs `file` and no other source, kind yolo needs `folder`")
        return self


class AnnotationSource(_Strict):
    """Annotations of label tools.

    Attributes:
        path: A file, or a folder with a file an image.
        format: Which format it has; `auto` finds out.
        classes: The classes that are white blood cells, by name or number; needed if there are several.
    """

    path: InnerPath
    format: Literal["auto", "coco", "csv", "yolo", "voc", "labelme", "via", "geojson"] = "auto"
    classes: tuple[int | str, ...] | None = None


class GroupSource(_Strict):
    """What an image belongs to that must not be divided between training and test: its patient, or its slide.

    Attributes:
        column: A column of the table of images.
        folder: The folder of this level below the image root, 1 being the first.
        pattern: A regular expression (RE2's: no look-around) searched in the path below the image root; the group is
            what its first parentheses match, or the whole match where it has none.
    """

    column: str | None = None
    folder: int | None = Field(default=None, ge=1)
    pattern: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> GroupSource:
        if sum(source is not None for source in (self.column, self.folder, self.pattern)) != 1:
            raise ValueError("give one of column, folder and pattern")
        if self.pattern is not None:
            compile_pattern(self.pattern)
        return self


class DatasetSpec(_Strict):
    """One dataset. All paths are relative to the dataset's folder, `<data root>/<name>`.

    Attributes:
        name: What commands call it; also the folder's name.
        title: One line for people.
        domain: The site: images of one domain share laboratory, stain and microscope.
        same_site_as: The published domain whose site this set shares, if it has another name.
        images: Folder of the images, or its URL.
        pattern: Which files below it are images of the set; files that begin with a dot never are.
        exclude: Which of these are none, such as masks that lie beside the images.
        labels: Where the labels come from.
        table: A table of the images with the columns that `group` and `metadata` name; the labels' table if None.
        group: How to read the group of an image, which every split keeps on one side; a text is a column.
        metadata: Columns of the table that go with the images into the store and its exports.
        masks: A folder of masks; at most one of `masks`, `annotations`, `coco` and `boxes` is given.
        annotations: Annotations of label tools; a text is their path.
        coco: A COCO JSON file; its file names are relative to the image root. The same as `annotations` of that format.
        coco_categories: Which of its categories are white blood cells; needed if it has several.
        boxes: Boxes without masks.
        um_per_px: Micrometres a pixel, None where nobody states it.
        bits: How many bits of the camera's values the images of 16 bits hold, such as 10, 12 or 14; None: 8, 12 or 16,
            by the largest value of each image. Images of 8 bits are read as they are.
        orientation: `stored` where boxes and masks are given in the stored raster, which is what is read. Otherwise
            annotated images to which EXIF gives another orientation are left out of training and evaluation.
        strict: Whether a row without a picture, an image without a row, an unknown code, or a file that is left out is
            an error. Otherwise they are said, and such images have no label.
        licence: The licence of the images, or what is known of it.
        citation: What to cite.
    """

    name: str
    title: str = ""
    domain: str = Field(min_length=1, pattern=r"\S")
    same_site_as: str | None = None
    images: InnerPath = "."
    pattern: InnerPath = "**/*"
    exclude: InnerPath | None = None
    labels: LabelSource = LabelSource()
    table: InnerPath | None = None
    group: GroupSource | None = None
    metadata: tuple[str, ...] = ()
    masks: MaskSource | None = None
    annotations: AnnotationSource | None = None
    coco: InnerPath | None = None
    coco_categories: tuple[str, ...] | None = None
    boxes: BoxSource | None = None
    um_per_px: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    bits: int | None = Field(default=None, ge=8, le=16)
    orientation: Literal["stored"] | None = None
    strict: bool = False
    licence: str = "not stated"
    citation: str = "not stated"

    @field_validator("name")
    @classmethod
    def _can_be_typed(cls, name: str) -> str:
        if not re.fullmatch(r"\w(?:[^/\\@:\x00-\x1f\x7f]*[^/\\@:\x00-\x1f\x7f\s])?", name):
            raise ValueError("a dataset's folder begins with a letter or digit and holds none of / \\ @ :")
        return unicodedata.normalize("NFC", name)

    @model_validator(mode="after")
    def _one_source_of_instances(self) -> DatasetSpec:
        if sum(source is not None for source in (self.masks, self.annotations, self.coco, self.boxes)) > 1:
            raise ValueError("give only one of masks, annotations, coco and boxes")
        if self.labels.kind in ("annotations", "coco") and self.annotation_source is None:
            raise ValueError(f"labels of kind {self.labels.kind} need the key annotations or coco")
        return self

    @property
    def annotation_source(self) -> AnnotationSource | None:
        """The annotations, whichever of the keys `annotations`, `coco` and `boxes` names them."""
        if self.coco is not None:
            return AnnotationSource(path=self.coco, format="coco", classes=self.coco_categories)
        if self.boxes is not None:
            path, yolo = str(self.boxes.file or self.boxes.folder), self.boxes.kind == "yolo"
            return AnnotationSource(path=path, format=self.boxes.kind, classes=self.boxes.classes if yolo else None)
        return self.annotations

    @field_validator("annotations", mode="before")
    @classmethod
    def _path_for_short(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("metadata", mode="before")
    @classmethod
    def _one_column(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("group", mode="before")
    @classmethod
    def _column_for_short(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _columns_have_a_table(self) -> DatasetSpec:
        if "group" in self.metadata:
            raise ValueError("metadata: the column 'group' is named by the key group: {column: group}")
        if self.columns and self.images_table is None:
            raise ValueError(f"the column {self.columns[0]!r} needs a table: give labels.file or table")
        return self

    @property
    def images_table(self) -> str | None:
        """The table that has the columns of `group` and `metadata`."""
        return self.table if self.table is not None else self.labels.file

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `group` and `metadata` name."""
        group = (self.group.column,) if self.group is not None and self.group.column is not None else ()
        return tuple(dict.fromkeys((*group, *self.metadata)))


def parse_spec(text: str, source: str, name: str) -> DatasetSpec:
    """Check the YAML text of a dataset; `name` and `domain` default to the given name, an empty text means defaults.

    Raises:
        CellfeatError: Not YAML, an unknown key, or a value of the wrong kind; one line that names it.
    """
    content = parse_yaml(text, source)
    if content is None:  # an empty file: the defaults
        content = {}
    if not isinstance(content, dict):
        raise CellfeatError(f"{source}: must hold keys such as images and labels; `cellfeat schema dataset` lists them")
    try:
        spec = DatasetSpec(**{"name": name, "domain": name, **{str(key): value for key, value in content.items()}})
    except ValidationError as error:
        raise CellfeatError(f"{source}: {_first_problem(error)}") from None
    if spec.name != unicodedata.normalize("NFC", name):
        raise CellfeatError(f"{source}: name is {spec.name!r} but the folder is {name!r}; make them the same")
    return spec


def load_spec(path: Path, name: str) -> DatasetSpec:
    """Read and check a dataset.yaml; see `parse_spec`."""
    return parse_spec(read_text(path), str(path), name)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}; `cellfeat schema dataset` lists the keys"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (got {printable(repr(problem['input']))})" if key else message
