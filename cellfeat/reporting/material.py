"""What a report is made of: artefacts of one store, read and checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cellfeat.core.files import as_written, sha256_file, slug
from cellfeat.core.settings import read_written
from cellfeat.core.spreadsheet import with_formulas
from cellfeat.data.split import divided_groups, patients_known, read_split
from cellfeat.errors import CellfeatError, Damaged
from cellfeat.evaluation.leaderboard import leaderboard
from cellfeat.evaluation.records import Comparison, Confusions, Evaluation, Scored
from cellfeat.evaluation.run import read_all
from cellfeat.evaluation.table import COLUMNS
from cellfeat.reporting.score_tables import protocols_that_differ

if TYPE_CHECKING:
    from cellfeat.store import Embeddings, Store

TEXTS = ("method", "classifier", "protocol", "train", "test", "where", "metric", "classes", "unlearned", "reason")
NUMBERS = ("mean", "sd", "low", "high", "chance")
COUNTS = ("runs", "n_train", "n_test")
AGAIN = "evaluate again"

Reconstructions = tuple[np.ndarray, Mapping[str, np.ndarray]]
"""Row numbers of cells (n,), and by a method's name what it draws of them, (n, S, S, 3) uint8 RGB."""


@dataclass(frozen=True)
class Scores:
    """How well cells were named, by an evaluation or by a comparison.

    Attributes:
        table: See `cellfeat.evaluation.cross_domain_table`.
        confusions: The entries of confusion.json.
        protocols: Those of the table that differ; the first is the one of figures and summaries.
        config: The evaluation's settings.
        split_file: Name of the split.csv that was kept to, None where the cells were split for the evaluation.
        patients: By domain: cells, known (those whose patient is known) and groups, see `patients_known`.
        divided: How many patients have cells on both sides of the split.
        separation: One line a method: how far laboratories and classes lie apart.
        leaderboard: Of a comparison: see `cellfeat.evaluation.leaderboard`.
        maps: Of a comparison: by title the 2-D map, see `cellfeat.evaluation.variant`.
        not_run: Of a comparison: by title why a method was left out.
        adapt: Of a comparison: the domain that methods adapted to, None for the tested one.
        trainings: Of a comparison: by title of a method that predicts, and by what it was fitted for, its metrics.csv;
            those of the first seed.
    """

    table: pd.DataFrame
    confusions: list[dict[str, Any]]
    protocols: list[str]
    config: dict[str, Any]
    split_file: str | None
    patients: dict[str, dict[str, int]]
    divided: int
    separation: list[dict[str, Any]]
    leaderboard: pd.DataFrame | None = None
    maps: dict[str, dict[str, Any]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    adapt: str | None = None
    trainings: dict[str, dict[str, Path]] = field(default_factory=dict)

    @property
    def first(self) -> pd.DataFrame:
        """The table's rows of the first protocol."""
        return self.table[self.table["protocol"].isin(self.protocols[:1])]


@dataclass(frozen=True)
class Material:
    """All that the sections of a report may show.

    Attributes:
        cells: `Store.table()`.
        embeddings: Of this store, each of another method.
        scores: None where nothing was scored.
        autoencoder: Folder of its training, if any.
        detector: Folder of its training or evaluation, if any.
        config_text: The run's configuration.
        same_site: Our domain's name to the paper's where both come from the same place.
    """

    store: Store
    cells: pd.DataFrame
    embeddings: list[Embeddings] = field(default_factory=list)
    scores: Scores | None = None
    autoencoder: Path | None = None
    detector: Path | None = None
    config_text: str = ""
    reconstructions: Reconstructions | None = None
    same_site: Mapping[str, str] = field(default_factory=dict)

    @property
    def compared(self) -> bool:
        """Whether the scores are those of a comparison."""
        return self.scores is not None and self.scores.leaderboard is not None


def gather(
    store: Store,
    embeddings: Sequence[str | Path] = (),
    *,
    evaluation: str | Path | None = None,
    comparison: str | Path | None = None,
    autoencoder: str | Path | None = None,
    detector: str | Path | None = None,
    config_text: str = "",
    reconstructions: Reconstructions | None = None,
    same_site: Mapping[str, str] | None = None,
) -> Material:
    """Read what a report shows.

    Args:
        store: The cells.
        embeddings: Embedding files of this store, each of another method.
        evaluation: Folder that `evaluate` wrote about these embeddings.
        comparison: Output folder of `compare` on this store; in place of an evaluation.
        autoencoder: Folder of its training: metrics.csv and the inputs of record.json are shown.
        detector: Folder of its training: metrics.json (JSON lines) and evaluation.json are shown.
        config_text: The run's configuration, shown as it is.
        reconstructions: Rows of the store, and by a method's name what it draws of them, (n, S, S, 3) uint8 RGB.
        same_site: Our domain's name to the paper's where both come from the same place, as
            {"pbc-barcelona": "Acevedo-20"}; equal names match anyway.

    Returns:
        The material of `write_report`.

    Raises:
        CellfeatError: Something is of another store, or does not fit the rest.
        Damaged: The files of an evaluation are of different runs.
    """
    if evaluation is not None and comparison is not None:
        raise CellfeatError("report: both an evaluation and a comparison are given", "give one of them")
    read = read_all(store, embeddings) if embeddings else []
    paths = {str(one.attributes["method"]): Path(path) for one, path in zip(read, embeddings)}
    scores = None
    if evaluation is not None:
        scores = read_evaluation(Path(evaluation), store, paths)
    elif comparison is not None:
        scores, said = read_comparison(Path(comparison), store)
        same_site = {**said, **(same_site or {})}
    if reconstructions is not None:
        _check_reconstructions(reconstructions, store)
    return Material(
        store,
        store.table(),
        read,
        scores,
        autoencoder=Path(autoencoder) if autoencoder else None,
        detector=Path(detector) if detector else None,
        config_text=config_text,
        reconstructions=reconstructions,
        same_site=same_site or {},
    )


def read_evaluation(folder: Path, store: Store, embeddings: Mapping[str, Path]) -> Scores:
    """What `evaluate` wrote.

    Args:
        embeddings: By method, the embeddings that it must have evaluated.

    Raises:
        CellfeatError: The evaluation is of another store or of other embeddings.
        Damaged: Its files are of different evaluations: one was interrupted.
    """
    path = folder / "evaluation.json"
    if not path.is_file():
        raise CellfeatError(f"{path}: no such file", "give the folder that `cellfeat evaluate` wrote")
    record = read_written(Evaluation, path, AGAIN)
    _check_files(path, record)
    if record["inputs"]["store"] != store.digest:
        raise CellfeatError(f"{folder}: evaluates another store", "evaluate this one")
    for method, file in embeddings.items():
        if record["inputs"]["embeddings"].get(method, {}).get("sha256") != sha256_file(file):
            raise CellfeatError(f"{folder}: does not evaluate {file} as it is now", "evaluate again")
    if unknown := set(store.table()["domain"]) - set(record["patients"]):
        raise CellfeatError(f"{path}: has no patients of {min(unknown)}", AGAIN)
    split = record["inputs"]["split"]
    table = _table(folder / "table.csv")
    return Scores(
        table,
        read_written(Confusions, folder / "confusion.json", AGAIN),
        protocols_that_differ(table),
        record["config"],
        split["file"] if split else None,
        record["patients"],
        record["divided_patients"],
        record["separation"],
    )


def _table(path: Path) -> pd.DataFrame:
    """The table.csv of an evaluation."""
    with as_written(path, AGAIN):
        found = pd.read_csv(
            path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=dict.fromkeys(NUMBERS, "")
        )
        if not {*TEXTS, *NUMBERS} <= set(found):
            raise CellfeatError(f"{path}: of an older version of cellfeat", AGAIN)
        return with_formulas(found.astype(dict.fromkeys(NUMBERS, float) | dict.fromkeys(COUNTS, int)))


def read_comparison(folder: Path, store: Store) -> tuple[Scores, dict[str, str]]:
    """What `compare` wrote, and its `same_site`.

    Raises:
        CellfeatError: There is no comparison, or it is of another store.
        Damaged: Its files are of different runs: one was interrupted.
    """
    path = folder / "compare.json"
    if not path.is_file():
        raise CellfeatError(f"{path}: no such file", "give the output folder of a `cellfeat compare` that is finished")
    record = read_written(Comparison, path, "compare again")
    if record["store"] != store.digest:
        raise CellfeatError(f"{folder}: compares methods on another store", "give the store that it names")
    _check_files(path, record)
    scored = {
        title: read_written(Scored, folder / "scores" / f"{slug(title)}.json", "compare again")
        for title in record["seconds"]
    }
    cells, split = store.table(), read_split(folder / "split.csv")
    for title, one in scored.items():
        if one["map"] and max(one["map"]["rows"], default=0) >= len(cells):
            raise CellfeatError(f"{folder}: the map of {title} has more cells than the store", "compare again")
    table = pd.DataFrame([row for one in scored.values() for row in one["table"]], columns=list(COLUMNS))
    table = table.astype(dict.fromkeys(NUMBERS, float))
    ranked = leaderboard(
        [line | {"seconds": record["seconds"][title]} for title, one in scored.items() for line in one["lines"]]
    )
    measured = ["method", "domain_accuracy", "domain_chance", "silhouette_class", "silhouette_domain"]
    separation = ranked[ranked["protocol"] == ranked["protocol"].iloc[0]].drop_duplicates("method")[measured]
    scores = Scores(
        table,
        [entry for one in scored.values() for entry in one["confusions"]],
        protocols_that_differ(table),
        record["config"]["evaluation"],
        "split.csv",
        patients_known(cells).to_dict("index"),
        len(divided_groups(cells, split)),
        separation.dropna(subset=["domain_accuracy"]).to_dict("records"),
        ranked,
        {title: one["map"] for title, one in scored.items() if one["map"]},
        record["not_run"],
        record["config"].get("adapt"),
        {title: logs for title in scored if (logs := _trainings(folder / "methods" / slug(title)))},
    )
    return scores, record["config"]["same_site"]


def _check_files(path: Path, record: Mapping[str, Any]) -> None:
    """Make sure that the files beside a record are those that it was written with (cellfeat 0.1.0 noted none)."""
    for name, sha256 in record.get("files", {}).items():
        if not (path.parent / name).is_file() or sha256_file(path.parent / name) != sha256:
            raise Damaged(f"{path.parent / name}: is of another run than {path.name}", "run the command again")


def _trainings(folder: Path) -> dict[str, Path]:
    """By what a method that predicts was fitted for, the log of its first seed."""
    runs = sorted(path for path in folder.glob("*") if path.is_dir())
    logs = runs[0].glob("*/fit/metrics.csv") if runs else ()
    return {path.parent.parent.name.replace("-to-", " → ").replace("-+-", " + "): path for path in logs}


def _check_reconstructions(given: Reconstructions, store: Store) -> None:
    rows, drawn = given
    for method, pictures in drawn.items():
        if pictures.ndim != 4 or pictures.shape[3] != 3 or len(pictures) != len(rows) or pictures.dtype != np.uint8:
            raise CellfeatError(
                f"reconstructions by {method}: {pictures.shape} {pictures.dtype} of {len(rows)} cells",
                "give (n, S, S, 3) uint8 RGB",
            )
