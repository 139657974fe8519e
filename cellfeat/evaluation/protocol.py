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
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from cellfeat.data.cell_ids import parts_of
from cellfeat.data.split import stratified_split
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.config import EvaluationConfig, ProtocolName

if TYPE_CHECKING:
    import pandas as pd

Classes = Literal["all", "shared"]
Where = Literal["within", "across"]
CLASSES: dict[ProtocolName, Classes] = {"paper": "all", "shared": "shared", "code": "all"}
CODE_SPLIT_SEED = 42  # RandomForest.py of the reference implementation


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
