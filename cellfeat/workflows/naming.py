"""The cells of sites without labels, named from the labelled cells of others: a table with probabilities, and how sure
they are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cellfeat.core.files import write_text
from cellfeat.core.spreadsheet import csv_text
from cellfeat.data.split import patients_known, stratified_split
from cellfeat.errors import CellfeatError, MissingRequirement
from cellfeat.evaluation.classifiers import fit
from cellfeat.evaluation.config import ClassifierName, EvaluationConfig
from cellfeat.evaluation.metrics import confusion_matrix, scores
from cellfeat.evaluation.table import align
from cellfeat.methods import build
from cellfeat.methods.base import embed_with
from cellfeat.store import Store, read_embeddings, write_predictions

log = logging.getLogger(__name__)

EMBEDDING = "wbc-ssl"  # needs no training, and carried furthest of what comes with the package (docs/results.md)
UNUSUAL = 0.99  # of the labelled cells lie nearer to their nearest than a cell that is called unusual
LOOKED_AT = 5000  # labelled cells that distances are measured to
UNSURE = 0.5


@dataclass(frozen=True)
class Naming:
    """What cells are called, and how sure that is.

    Attributes:
        table: One row a cell of the sites that were named: cell_id, image_id, domain, label (as stored), predicted,
            probability, unusual (further from every labelled cell than 99 % of these from each other).
        classes: The k classes of the labelled cells.
        probabilities: (n, k) float32.
        learned: Labelled cells that were learned from.
        held_out: accuracy, macro_f1 and probability (the mean of the highest) on a fifth of the labelled cells, named
            by a classifier that had not seen them.
        patients: Whether cells of one patient were kept on one side for that.
        attributes: method, config and store_digest of the embeddings, and what was learned from.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    probabilities: np.ndarray
    learned: int
    held_out: dict[str, float]
    patients: bool
    attributes: dict[str, str]

    def lines(self) -> list[str]:
        """In words, a line each."""
        found, held = self.table, self.held_out
        sites = ", ".join(sorted(set(found["domain"])))
        trained = self.attributes["train"]
        which = "" if self.patients else "; cells of one patient may be on both sides"
        said = [
            f"{len(found)} cells of {sites}, named from {self.learned} labelled cells of {trained}",
            f"held-out cells of {trained}: {100 * held['accuracy']:.1f} % right, macro-F1 {held['macro_f1']:.3f}, "
            f"mean probability {held['probability']:.2f}{which}",
            f"cells of {sites}: mean probability {found['probability'].mean():.2f}, "
            f"{100 * (found['probability'] < UNSURE).mean():.0f} % below {UNSURE:g}, "
            f"{100 * found['unusual'].mean():.0f} % unlike any cell of {trained}",
        ]
        known = found[found["label"] != ""]
        if len(known):
            right = (known["label"] == known["predicted"]).mean()
            said.append(f"of {len(known)} of these that have a label, {100 * right:.1f} % are called so")
        else:
            said.append("how many are right is not known: label some of them (`cellfeat view --annotate`) and see")
        return said


def name_cells(
    store: Store,
    train: Sequence[str],
    embeddings: Path | None = None,
    labels: Path | None = None,
    classifier: ClassifierName = "forest",
) -> Naming:
    """Name the cells of all other sites from the labelled cells of some.

    Args:
        store: All of the sites.
        train: Domains whose labelled cells are learned from.
        embeddings: An embeddings file of the store; None: the built-in embedding, made where it is not there.
        labels: Labels in place of the store's, see `cellfeat.data.label_table`.
        classifier: As in `evaluate`, with its settings.

    Raises:
        CellfeatError: No such domain, no other domain, or files of another store.
        MissingRequirement: There are fewer than two classes to learn.
    """
    table = (store if labels is None else store.with_labels(labels)).table()
    domain, label = table["domain"].to_numpy(str), table["label"].to_numpy(str)
    for name in train:
        if name not in set(domain):
            raise CellfeatError(f"train: {name!r} is no domain of {store.path}", f"choose from {_listed(domain)}")
    learned, asked = np.isin(domain, train) & (label != ""), ~np.isin(domain, train)
    if not asked.any():
        raise CellfeatError(f"train: {store.path} has no other domain", "nothing is left to name")
    if len(classes := sorted(set(label[learned]))) < 2:
        what = f"{' + '.join(train)}: has labels of {len(classes)} classes"
        raise MissingRequirement(what, "name a site with labels of two or more", "labels")
    found = read_embeddings(_embedded(store) if embeddings is None else embeddings)
    if found.attributes["store_digest"] != store.digest:
        raise CellfeatError(f"{embeddings}: made from another store", "embed this store")
    z, config = align(found, table), EvaluationConfig()
    part = stratified_split(table[learned]).to_numpy(str)
    held_out = _held_out(classifier, z[learned], label[learned], part, config)
    model = fit(classifier, z[learned], label[learned], config, "paper", config.seed)
    probabilities = model.predict_proba(z[asked]).astype(np.float32)
    columns = ["cell_id", "image_id", "domain", "label"]
    named = table.loc[asked, columns].reset_index(drop=True)
    named["predicted"] = np.asarray(model.classes_)[probabilities.argmax(axis=1)]
    named["probability"] = probabilities.max(axis=1)
    named["unusual"] = unusual(z[asked], z[learned])
    attributes = {name: str(found.attributes[name]) for name in ("method", "config", "store_digest")}
    patients = bool((patients_known(table[learned])["known"] > 0).all())
    attributes |= {"classifier": classifier, "train": ", ".join(sorted(train))}
    return Naming(
        named, tuple(map(str, model.classes_)), probabilities, int(learned.sum()), held_out, patients, attributes
    )


def write_naming(naming: Naming, output: Path) -> Path:
    """Write the table with a column a class, and beside it a predictions file (.h5) for `cellfeat view`.

    Returns:
        The predictions file.
    """
    wide = pd.DataFrame(naming.probabilities, columns=list(naming.classes)).round(4)
    table = pd.concat([naming.table.round({"probability": 4}), wide], axis=1)
    write_text(output, csv_text(table))
    file = output.with_suffix(".h5")
    method = f"{naming.attributes['method']} {naming.attributes['classifier']} of {naming.attributes['train']}"
    told = naming.attributes | {"method": method}
    write_predictions(file, naming.table["cell_id"].to_numpy(str), naming.classes, naming.probabilities, told)
    return file


def unusual(z: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """(n,) bool: cells further from every labelled cell than 99 % of these are from their nearest other.

    Args:
        z: (n, d).
        learned: (m, d) labelled cells; of many, an even choice is looked at.
    """
    from sklearn.neighbors import NearestNeighbors

    chosen = learned[np.unique(np.linspace(0, len(learned) - 1, min(len(learned), LOOKED_AT)).astype(int))]
    if len(chosen) < 2:
        return np.zeros(len(z), bool)
    among = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(chosen)
    own = among.kneighbors(return_distance=True)[0][:, 0]  # of each to another
    return among.kneighbors(z)[0][:, 0] > np.quantile(own, UNUSUAL)


def _held_out(
    classifier: ClassifierName, z: np.ndarray, label: np.ndarray, part: np.ndarray, config: EvaluationConfig
) -> dict[str, float]:
    learned, tested = part == "train", part == "test"
    if not tested.any() or len(set(label[learned])) < 2:
        return dict.fromkeys(("accuracy", "macro_f1", "probability"), float("nan"))
    model = fit(classifier, z[learned], label[learned], config, "paper", config.seed)
    probabilities = model.predict_proba(z[tested])
    named = np.asarray(model.classes_)[probabilities.argmax(axis=1)].astype(str)
    classes = sorted({*label.tolist()})
    found = scores(confusion_matrix(label[tested], named, classes))
    mean = float(probabilities.max(axis=1).mean())
    return {"accuracy": found["accuracy"], "macro_f1": found["macro_f1"], "probability": mean}


def _embedded(store: Store) -> Path:
    """The file of the built-in embedding, made where it is not there or of other cells."""
    path = store.path / "embeddings" / f"{EMBEDDING}.h5"
    if path.is_file() and read_embeddings(path).attributes["store_digest"] == store.digest:
        return path
    return embed_with(build(EMBEDDING), store, np.arange(len(store)), path.with_suffix(""), path)


def _listed(names: np.ndarray) -> str:
    return ", ".join(sorted(set(names.tolist())))
