"""The ways of scoring: which cells a forest learns from, and which cells it is tested on.

`paper`: section 3.4 of the AE-CFE paper. Each domain is split 80/20, class by class. A forest learns all classes of one
domain's train part and is tested on the whole test part of every domain, also on classes that it never saw. Several
forests that differ in their seed give mean and sd. The published numbers are of this protocol.

`shared`: as `paper`, but a pair of domains is scored on the classes that both have, by a forest that learned these
alone. It tells how well classes are recognised; `paper` also counts the cells that cannot be.

`code`: what the reference implementation of AE-CFE does. Each domain is split 80/20 with seed 42, classes disregarded;
one forest of 100 trees learns all classes; another domain is tested whole. The autoencoder may have seen cells that are
tested, though not their labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from cellfeat.data.cell_ids import parts_of
from cellfeat.data.class_tree import ClassTree, load_classes
from cellfeat.data.split import stratified_split
from cellfeat.errors import CellfeatError

if TYPE_CHECKING:
    import pandas as pd

ProtocolName = Literal["paper", "shared", "code"]
Classes = Literal["all", "shared"]
Where = Literal["within", "across"]
ClassifierName = Literal["forest", "linear", "knn"]
CLASSES: dict[ProtocolName, Classes] = {"paper": "all", "shared": "shared", "code": "all"}
CODE_TREES, CODE_SPLIT_SEED, CODE_FOREST_SEED = 100, 42, 0  # RandomForest.py of the reference implementation


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


class Training(NamedTuple):
    """Domains whose labelled cells are learned from together, and the domains that are then tested.

    Attributes:
        sources: In alphabetical order.
        tests: In alphabetical order.
    """

    sources: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        """The sources in one word: what tables call `train`."""
        return " + ".join(self.sources)

    def where(self, test: str) -> Where:
        """'within' if the tested domain is one of the sources."""
        return "within" if test in self.sources else "across"


def trainings(labelled: Iterable[str], config: EvaluationConfig) -> list[Training]:
    """What is trained on, and what each is tested on.

    Args:
        labelled: The domains that have labelled cells.

    Raises:
        CellfeatError: The config names one that has none, or there is none to leave out.
    """
    there = sorted(set(labelled))
    sets = [] if isinstance(config.train, str) else config.train
    for key, names in (("domains", config.domains or ()), ("train", [name for one in sets for name in one])):
        for name in names:
            if name not in there:
                raise CellfeatError(
                    f"{key}: {name!r} has no labelled cell in the store; choose from {', '.join(there)}"
                )
    tests = tuple(there if config.domains is None else sorted(set(config.domains)))
    if config.train == "each":
        return [Training((name,), tests) for name in tests]
    if config.train == "leave-one-out":
        if len(tests) < 2:
            raise CellfeatError(
                f"train: leave-one-out needs two labelled domains, there is {', '.join(tests) or 'none'}"
            )
        return [Training(tuple(name for name in tests if name != out), (out,)) for out in tests]
    return [Training(tuple(sorted(one)), tests) for one in sets]


def involved_domains(planned: Iterable[Training]) -> list[str]:
    """The domains that are trained on or tested, in alphabetical order."""
    return sorted({name for one in planned for name in (*one.sources, *one.tests)})


def complete_split(
    table: pd.DataFrame, split: pd.Series | None, config: EvaluationConfig
) -> tuple[pd.Series, list[str]]:
    """The split of every cell of `table`, and the domains whose split was made here.

    A domain that a given `split` does not know at all is split here: the extractor has seen none of its cells.

    Raises:
        CellfeatError: `split` names some cells of a domain and not others.
    """
    import pandas as pd

    made = stratified_split(table, config.test_fraction, config.seed)
    if split is None:
        return made, sorted(set(table["domain"]))
    given = parts_of(split, table["cell_id"], absent="")
    known = pd.Series(given != "", index=table.index)
    fresh = []
    for domain, covered in known.groupby(table["domain"]):
        if not covered.any():
            fresh.append(str(domain))
        elif not covered.all():
            first = table["cell_id"][covered.index[~covered]].iloc[0]
            raise CellfeatError(
                f"split: lacks {int((~covered).sum())} of {len(covered)} cells of {domain} (the first is {first!r}); "
                "give the split.csv of the autoencoder that made the embeddings"
            )
    return made.mask(known.to_numpy(), pd.Series(given, index=made.index)), fresh


def reference_split(labelled: pd.DataFrame) -> pd.Series:
    """The split of protocol `code`: 80/20 of each domain, seed 42, not stratified; indexed by cell_id."""
    import pandas as pd
    from sklearn.model_selection import train_test_split

    parts = pd.Series("train", index=sorted(labelled["cell_id"]), dtype=object)
    for _, cells in labelled.groupby("domain"):
        if len(cells) > 1:
            _, tested = train_test_split(sorted(cells["cell_id"]), test_size=0.2, random_state=CODE_SPLIT_SEED)
            parts[tested] = "test"
    return parts


def members(
    domain: np.ndarray, part: np.ndarray, sources: tuple[str, ...], test: str, protocol: ProtocolName
) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are trained on, of the `sources`, and which are scored: two bool arrays (n,) that never overlap."""
    learned = np.isin(domain, sources) & (part == "train")
    if protocol == "code" and test not in sources:
        return learned, domain == test
    return learned, (domain == test) & (part == "test")
