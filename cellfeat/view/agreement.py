"""Labels out of the logs of several people: what they agree on, where they differ, and by how much beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from cellfeat.core.files import write_text
from cellfeat.core.spreadsheet import csv_text
from cellfeat.data.cell_ids import rows_of
from cellfeat.errors import CellfeatError
from cellfeat.store import Store
from cellfeat.view.annotations import counting, read_log


@dataclass(frozen=True)
class Agreement:
    """How two people agree on the cells that both labelled; kappa is None where both only ever gave one class."""

    first: str
    second: str
    cells: int
    agreed: int
    kappa: float | None

    def __str__(self) -> str:
        text = f"{self.first} and {self.second}: {self.cells} cells labelled by both, {self.agreed} alike"
        return text if self.kappa is None else f"{text}, Cohen's kappa {self.kappa:.3f}"


def labels_of(store: Store, logs: Sequence[Path]) -> dict[str, dict[str, str]]:
    """The last label that each person gave to each cell: user → cell id → label.

    Raises:
        CellfeatError: A log is missing, damaged or of another store, or names a cell that the store lacks.
    """
    found: dict[str, dict[str, str]] = {}
    for path in logs:
        if not path.is_file():
            raise CellfeatError(f"{path}: no such file", "give a log that `cellfeat view --annotate` wrote")
        lines = sorted(counting(read_log(path).lines), key=lambda line: line["time"])
        for line in lines:
            if line["store"] != store.digest:
                raise CellfeatError(f"{path}: is about another store ({line['store'][:12]})", "give this store's log")
            rows_of(line["cells"], store.table()["cell_id"], store.path, "give this store's log")
            if line["kind"] == "label":
                found.setdefault(line["user"], {}).update(dict.fromkeys(line["cells"], line["new"]))
    return found


def agreements(labels: dict[str, dict[str, str]]) -> list[Agreement]:
    """How each two people agree (Cohen, Educational and Psychological Measurement 20, 1960)."""
    from sklearn.metrics import cohen_kappa_score

    pairs = []
    for first, second in combinations(sorted(labels), 2):
        both = sorted(labels[first].keys() & labels[second].keys())
        one, other = ([labels[user][cell] for cell in both] for user in (first, second))
        agreed = sum(a == b for a, b in zip(one, other))
        varied = len({*one, *other}) > 1
        kappa = float(cohen_kappa_score(one, other)) if varied else None
        pairs.append(Agreement(first, second, len(both), agreed, kappa))
    return pairs


def apply(store: Store, logs: Sequence[Path], output: Path) -> tuple[int, int, list[Agreement]]:
    """Write the labels of a store as people corrected them.

    `output` has a row for each cell of the store: cell_id, label, stored (the label in the store), by (who gave it).
    Cells on which people differ keep the stored label; disagreements.csv beside it names them, with a column a person.

    Returns:
        How many labels changed, on how many cells people differ, and how each two agree.
    """
    labels, table = labels_of(store, logs), store.table()[["cell_id", "label"]].rename(columns={"label": "stored"})
    said: dict[str, dict[str, str]] = {}
    for user, of_user in labels.items():
        for cell, label in of_user.items():
            said.setdefault(cell, {})[user] = label
    agreed = {cell: by for cell, by in said.items() if len(set(by.values())) == 1}
    table["label"] = [
        next(iter(agreed[cell].values())) if cell in agreed else label
        for cell, label in zip(table["cell_id"], table["stored"])
    ]
    table["by"] = [", ".join(sorted(agreed.get(cell, ()))) for cell in table["cell_id"]]
    columns = table[["cell_id", "label", "stored", "by"]]
    write_text(output, csv_text(columns))
    differ = {cell: by for cell, by in said.items() if cell not in agreed}
    if differ:
        rows = [{"cell_id": cell, **{user: by.get(user, "") for user in sorted(labels)}} for cell, by in differ.items()]
        text = csv_text(pd.DataFrame(rows))
        write_text(output.with_name("disagreements.csv"), text)
    return int((table["label"] != table["stored"]).sum()), len(differ), agreements(labels)
