"""What an evaluation and a comparison wrote, checked as it is read again: the forms of their JSON files.

Only what is read is described. The files of an older version and of other tools may hold more.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

Number = float | None
"""None where there is nothing to measure: JSON knows no NaN."""
Count = Annotated[int, Field(ge=0, lt=1 << 53)]


class _Written(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class _OfPair(_Written):
    """What a classifier learned, and what it was scored on."""

    method: str
    classifier: str
    protocol: str
    train: str
    test: str
    where: Literal["within", "across"]


class Row(_OfPair):
    """A row of the cross-domain table, see `cellfeat.evaluation.table.tidy`."""

    metric: str
    mean: Number
    sd: Number
    low: Number
    high: Number
    runs: Count
    chance: Number
    n_train: Count
    n_test: Count
    classes: str
    unlearned: str
    reason: str


class Confusion(_OfPair):
    """An entry of confusion.json, see `cellfeat.evaluation.run.confusion_entry`."""

    classes: list[str] = Field(min_length=1)
    compared_as: dict[str, str] = Field(default_factory=dict)
    counts: list[list[Count]]

    @model_validator(mode="after")
    def _square(self) -> Confusion:
        if {len(self.classes)} != {len(self.counts), *map(len, self.counts)}:
            raise ValueError("counts have not a row and a column a class")
        return self


class Line(_Written):
    """A line of the leaderboard, see `cellfeat.evaluation.leaderboard`; what else it holds are numbers."""

    __pydantic_extra__: dict[str, Number]

    method: str
    classifier: str
    protocol: str


class Map(_Written):
    """Cells in two dimensions, see `cellfeat.evaluation.variant`."""

    kind: str
    rows: list[Count]
    xy: list[Annotated[list[float], Field(min_length=2, max_length=2)]]
    reason: str
    d: Count

    @model_validator(mode="after")
    def _a_place_a_row(self) -> Map:
        if len(self.rows) != len(self.xy):
            raise ValueError("rows and xy are of different length")
        return self


class Scored(_Written):
    """Scores of one method of a comparison, see `cellfeat.evaluation.variant`."""

    inputs: dict[str, Any]
    table: list[Row]
    confusions: list[Confusion]
    lines: list[Line]
    map: Map | None


class Settings(_Written):
    """The settings of an evaluation, as far as a report shows more than their text."""

    protocols: list[str]
    classifiers: list[str]
    runs: Count
    trees: Count
    depth: Count
    test_fraction: float


class Compared(_Written):
    """The settings of a comparison, as far as a report uses them."""

    evaluation: Settings
    same_site: dict[str, str]
    adapt: str | None = None


class Comparison(_Written):
    """compare.json."""

    config: Compared
    store: str
    not_run: dict[str, str]
    seconds: dict[str, float]
    files: dict[str, str] = Field(default_factory=dict)


class Patients(_Written):
    """See `cellfeat.data.split.patients_known`."""

    cells: Count
    known: Count
    groups: Count


class Separation(_Written):
    """How far apart domains and classes lie in one embedding, see `cellfeat.evaluation.separation`."""

    method: str
    domain_accuracy: Number
    domain_chance: Number
    silhouette_class: Number
    silhouette_domain: Number


class _File(_Written):
    file: str
    sha256: str


class _Inputs(_Written):
    store: str
    embeddings: dict[str, _File]
    split: _File | None


class Evaluation(_Written):
    """evaluation.json."""

    config: Settings
    inputs: _Inputs
    patients: dict[str, Patients]
    divided_patients: Count
    separation: list[Separation]
    files: dict[str, str] = Field(default_factory=dict)


class Confusions(RootModel[list[Confusion]]):
    """confusion.json."""
