"""The settings of an evaluation; `cellfeat.evaluation.protocol` says what the protocols are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cellfeat.data.class_tree import ClassTree, load_classes

ProtocolName = Literal["paper", "shared", "code"]
ClassifierName = Literal["forest", "linear", "knn"]
CODE_TREES, CODE_FOREST_SEED = 100, 0  # RandomForest.py of the reference implementation


class EvaluationConfig(BaseModel):
    """How embeddings are scored; `runs`, `trees`, `seed` and `test_fraction` do not concern protocol `code`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocols: list[ProtocolName] = Field(
        default=["paper", "shared", "code"],
        min_length=1,
        description="Protocols to score by, in the order of the report.",
    )
    classifiers: list[ClassifierName] = Field(
        default=["forest"], min_length=1, description="Classifiers to score with, in the order of the report."
    )
    balanced: bool = Field(
        default=False, description="Every class has the same weight in training, however many cells it has."
    )
    neighbours: int = Field(default=20, ge=1, description="How many cells vote in 'knn'.")
    domains: list[str] | None = Field(
        default=None,
        min_length=1,
        description="The labelled domains to test on, and to train on unless `train` names others; default: all.",
    )
    train: Literal["each", "leave-one-out"] | list[list[str]] = Field(
        default="each",
        description=(
            "What is learned from: 'each' domain by itself, 'leave-one-out' all of them pooled but the one that is "
            "tested, or sets of domains that are pooled, [[a, b], [c]]; a,b is one set."
        ),
    )
    bootstrap: int = Field(
        default=1000,
        ge=0,
        description="Resamples of the tested patients (or images) behind the 95 % intervals; 0 leaves them out.",
    )
    runs: int = Field(default=5, ge=1, description="Forests per pair of domains; the k-th has the seed `seed` + k.")
    trees: int = Field(default=200, ge=1, description="Trees of a forest.")
    depth: int = Field(default=16, ge=1, description="Largest depth of a tree.")
    seed: int = Field(default=0, ge=0, description="Of the first forest, and of the split when none is given.")
    test_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of each class that is tested on when no split is given."
    )
    classes: str | None = Field(
        default=None,
        description=(
            "Table class,parent of the project's own classes; domains that label at different levels are compared at "
            "the finest level that both have; default: the classes of the datasets, which the store keeps."
        ),
    )
    min_cells: int = Field(
        default=5, ge=2, description="A pair with fewer cells to train on, or to score, is not evaluated."
    )

    @field_validator("train", mode="before")
    @classmethod
    def _sets(cls, given: Any) -> Any:
        if isinstance(given, str) and given not in ("each", "leave-one-out"):
            given = [[name.strip() for name in given.split(",")]]
        if not isinstance(given, (list, tuple)):
            return given
        sets = [[one] if isinstance(one, str) else one for one in given]
        named = [sorted(one) for one in sets if isinstance(one, (list, tuple)) and all(isinstance(n, str) for n in one)]
        if not sets or [] in named:
            raise ValueError("a set to train on names no domain")
        for one in named:
            if len(set(one)) < len(one):
                raise ValueError(f"{' + '.join(one)} names one twice")
            if named.count(one) > 1:
                raise ValueError(f"{' + '.join(one)} occurs twice")
        return sets

    def tree(self, of_store: ClassTree) -> ClassTree:
        """The classes of the table `classes`, or those that a store keeps.

        Raises:
            CellfeatError: The table is missing or damaged.
        """
        return of_store if self.classes is None else load_classes(Path(self.classes))

    def forest_size(self, protocol: ProtocolName) -> int:
        """Trees of one forest."""
        return CODE_TREES if protocol == "code" else self.trees

    def run_seeds(self, protocol: ProtocolName) -> list[int]:
        """The seed of each run."""
        return [CODE_FOREST_SEED] if protocol == "code" else [self.seed + run for run in range(self.runs)]
