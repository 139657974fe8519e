"""How far embeddings carry: classifiers learn one laboratory's cells and name another's, for every pair of them.

    python benchmarks/carry.py STORE quantiles=quantiles.h5:coral joined=simclr.h5,measurements.h5:standard wbc-ssl.h5

For each pair of domains a classifier learns all labelled cells of one whose classes both have, and names all such cells
of the other; within a domain by five folds that keep patients together. Files joined by commas are put side by side.
An alignment may follow a colon: `standard` gives every number mean 0 and standard deviation 1 within each domain, the
others are those of the package or of adaptation.py; none of them sees a label of the tested domain. The interval is
that of 1,000 resamples of the tested cells, of whole patients where they are known, the same for all rows; the
difference is to the first embedding. `--shuffle` learns from shuffled labels, a control.

`--sure` also says how far the classifier's probabilities can be trusted: the expected calibration error (Guo et al.,
"On calibration of modern neural networks", ICML 2017, eq. 3, 15 bins), and the accuracy of the surest 80 and 50 % of
the tested cells. `--few 0 5 20 50` also learns so many labelled cells a class of the tested laboratory, beside the
other one's and alone; they come from one half of its patients (or cells), and the other half is tested.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
from adaptation import ADAPTATIONS, plain
from sklearn.model_selection import StratifiedGroupKFold

from cellfeat.data.alignment import Alignment, aligned, standardised
from cellfeat.evaluation import classifiers
from cellfeat.evaluation.config import EvaluationConfig
from cellfeat.evaluation.metrics import confusion_matrix, interval, scores
from cellfeat.store import Store, read_embeddings

BINS = 15  # of the calibration error
CONFIG = EvaluationConfig()  # the paper's forest: 200 trees, depth 16
METRICS = ("macro_f1", "accuracy")


class Named(NamedTuple):
    """What the tested cells are and what they were called, with what is drawn as a whole: a patient, or a cell."""

    true: np.ndarray
    predicted: np.ndarray
    unit: np.ndarray
    probability: np.ndarray  # of the predicted class


def across(
    z: np.ndarray, cells: pd.DataFrame, learner: str, shuffle: bool, adapt: Callable = plain
) -> dict[tuple[str, str], Named]:
    """Of each pair of domains (learned, tested): rows of `cells` are those of z, all of them labelled."""
    named = {}
    for one, other in permutations(sorted(set(cells["domain"])), 2):
        here, there = (cells["domain"].to_numpy() == name for name in (one, other))
        classes = set(cells["label"][here]) & set(cells["label"][there])
        shared = cells["label"].isin(classes).to_numpy()
        label = cells["label"].to_numpy(str)
        learned = label[here & shared]
        if shuffle:
            learned = np.random.default_rng(0).permutation(learned)
        test = there & shared
        fit = partial(classifiers.fit, learner, config=CONFIG, protocol="shared", seed=0)
        answer = adapt(fit, z[here & shared], learned, z[test])
        named[one, other] = as_called(*answer, label[test], cells["unit"].to_numpy()[test])
    return named


def as_called(classes: np.ndarray, probability: np.ndarray, true: np.ndarray, unit: np.ndarray) -> Named:
    """What a classifier with these classes and probabilities (n, k) calls cells."""
    return Named(true, classes[probability.argmax(1)], unit, probability.max(1))


def called(model: Any, z: np.ndarray, true: np.ndarray, unit: np.ndarray) -> Named:
    """What a fitted classifier calls cells, and how sure it is."""
    return as_called(model.classes_, model.predict_proba(z), true, unit)


def few_shot(z: np.ndarray, cells: pd.DataFrame, learner: str, shots: int, alone: bool) -> dict[Any, Named]:
    """As `across`, with `shots` labelled cells a class of the tested domain learned too, or these alone."""
    named: dict[Any, Named] = {}
    label, unit = cells["label"].to_numpy(str), cells["unit"].to_numpy()
    for one, other in permutations(sorted(set(cells["domain"])), 2):
        here, there = (cells["domain"].to_numpy() == name for name in (one, other))
        shared = np.isin(label, list(set(label[here]) & set(label[there])))
        theirs = np.flatnonzero(there & shared)
        halves = StratifiedGroupKFold(2, shuffle=True, random_state=0).split(theirs, label[theirs], unit[theirs])
        first, second = next(iter(halves))
        known, test = theirs[first], theirs[second]
        rng = np.random.default_rng(0)
        chosen = [rng.permutation(known[label[known] == name])[:shots] for name in sorted(set(label[known]))]
        learned = np.concatenate([*chosen, np.flatnonzero(here & shared)[: 0 if alone else None]]).astype(int)
        model = classifiers.fit(learner, z[learned], label[learned], CONFIG, "shared", 0)
        named[one, other] = called(model, z[test], label[test], unit[test])
    return named


def calibration_error(one: Named) -> float:
    """Expected calibration error: how far probability and accuracy are apart, over BINS bins of equal width."""
    right = one.true == one.predicted
    part = np.minimum((one.probability * BINS).astype(int), BINS - 1)
    gaps = [abs(right[part == k].mean() - one.probability[part == k].mean()) * (part == k).mean() for k in set(part)]
    return float(sum(gaps))


def surest(one: Named, share: float) -> float:
    """Accuracy of that share of the cells whose probability is highest."""
    kept = np.argsort(-one.probability, kind="stable")[: max(1, round(share * len(one.true)))]
    return float((one.true == one.predicted)[kept].mean())


def within(z: np.ndarray, cells: pd.DataFrame, learner: str) -> dict[str, Named]:
    """Of each domain by five folds."""
    named = {}
    for name in sorted(set(cells["domain"])):
        rows = np.flatnonzero(cells["domain"] == name)
        label, unit = cells["label"].to_numpy(str)[rows], cells["unit"].to_numpy()[rows]
        predicted, probability = label.copy(), np.zeros(len(rows))
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        for learn, test in folds.split(rows, label, unit):
            model = classifiers.fit(learner, z[rows[learn]], label[learn], CONFIG, "shared", 0)
            _, predicted[test], _, probability[test] = called(model, z[rows[test]], label[test], unit[test])
        named[name] = Named(label, predicted, unit, probability)
    return named


def score(named: Named, rows: np.ndarray | slice = slice(None)) -> dict[str, float]:
    """The scores of the tested cells `rows`."""
    classes = sorted({*named.true, *named.predicted})
    return scores(confusion_matrix(named.true[rows], named.predicted[rows], classes))


def mean_score(named: dict, metric: str) -> float:
    """The mean over the pairs, or over the domains."""
    return float(np.mean([score(one)[metric] for one in named.values()]))


def resampled(named: dict[tuple[str, str], Named], metric: str, draws: int) -> np.ndarray:
    """(draws,) means over the pairs, each of other tested cells; the draws depend on the cells alone."""
    total = np.zeros(draws)
    for one in named.values():
        rng = np.random.default_rng(0)
        members = pd.Series(np.arange(len(one.unit))).groupby(one.unit).apply(np.array).to_list()
        for k in range(draws):
            rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
            total[k] += score(one, rows)[metric]
    return total / len(named)


def transformed(z: np.ndarray, domain: np.ndarray, by: str) -> np.ndarray:
    """The embeddings under an alignment, `standard` or none (""); all cells give the statistics, none its label."""
    if by == "standard":
        return standardised(z, domain)
    if by in get_args(Alignment):
        return aligned(z, domain, np.arange(len(z)), by, min(domain))  # type: ignore[arg-type]
    if by and by not in ADAPTATIONS:
        raise SystemExit(f"alignment {by!r}: choose from standard, {', '.join((*get_args(Alignment), *ADAPTATIONS))}")
    return z


def main() -> None:
    """Print one row an embedding and alignment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("embeddings", nargs="+", metavar="NAME=FILE[,FILE][:ALIGNMENT]")
    parser.add_argument("--classifiers", nargs="+", default=["forest", "linear"], choices=["forest", "linear", "knn"])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--shuffle", action="store_true")
    parser.add_argument("--within", action="store_true", help="also score within each domain; takes four times as long")
    parser.add_argument("--sure", action="store_true", help="also calibration and the surest cells")
    parser.add_argument("--few", type=int, nargs="*", default=[], metavar="N", help="labelled cells a class")
    parser.add_argument("--pairs", action="store_true", help="also a line a pair")
    given = parser.parse_args()
    table = Store(given.store).table()
    group = table["group"] if "group" in table else pd.Series("", table.index)
    table["unit"] = group.where(group != "", table["image_id"])
    labelled = (table["label"] != "").to_numpy()
    cells = table[labelled].reset_index(drop=True)
    print("| embedding | alignment | classifier | macro-F1 across | 95 % | difference | accuracy across | within |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    reference: dict[str, np.ndarray] = {}
    for argument in given.embeddings:
        name, _, described = argument.rpartition("=")
        files, _, by = described.partition(":")
        z = np.hstack([read_embeddings(file).of(table["cell_id"]) for file in files.split(",")])
        moved = transformed(z, table["domain"].to_numpy(str), by)[labelled]
        for learner in given.classifiers:
            named = across(moved, cells, learner, given.shuffle, ADAPTATIONS.get(by, plain))
            inside = f"{mean_score(within(moved, cells, learner), 'accuracy'):.3f}" if given.within else "–"
            draws = resampled(named, "macro_f1", given.draws)
            low, high = interval(draws)
            less, more = interval(draws - reference.setdefault(learner, draws))
            f1, accuracy = (mean_score(named, metric) for metric in METRICS)
            print(
                f"| {name or files} | {by or 'none'} | {learner} | {f1:.3f} | {low:.3f} to {high:.3f} "
                f"| {less:+.3f} to {more:+.3f} | {accuracy:.3f} | {inside} |",
                flush=True,
            )
            for pair, one in named.items() if given.pairs else ():
                print(
                    f"    {' -> '.join(pair)}: " + ", ".join(f"{metric} {score(one)[metric]:.3f}" for metric in METRICS)
                )
            if given.sure:
                error = np.mean([calibration_error(one) for one in named.values()])
                most, half = (np.mean([surest(one, share) for one in named.values()]) for share in (0.8, 0.5))
                print(f"    calibration error {error:.3f}, accuracy of the surest 80 % {most:.3f}, 50 % {half:.3f}")
            for shots in given.few:
                both = mean_score(few_shot(moved, cells, learner, shots, alone=False), "macro_f1")
                text = f"    {shots} labelled cells a class: macro-F1 {both:.3f}"
                if shots:
                    text += f", alone {mean_score(few_shot(moved, cells, learner, shots, alone=True), 'macro_f1'):.3f}"
                print(text, flush=True)


if __name__ == "__main__":
    main()
