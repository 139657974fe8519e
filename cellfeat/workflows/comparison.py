"""`cellfeat compare`: methods × training domain × test domain on one store, judged by one evaluator, resumable.

In the output folder lie

    split.csv                       the cells that every method learns from, and those it is tested on
    methods/<method>/seed-<k>/      what a method learned, with embeddings.h5 (and those aligned) or predictions
    scores/<method>.json            its tables, confusion matrices, line of the leaderboard and 2-D map
    leaderboard.csv, table.csv, confusion.json, compare.json, report.html

Results of the same inputs are kept. A run of other inputs that is finished, or can be continued, is refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.core.files import as_written, digest, sha256_file, slug, write_json, write_text
from cellfeat.core.lock import FolderLock
from cellfeat.core.processes import connection, shared_out
from cellfeat.core.run_record import RunRecord
from cellfeat.core.settings import read_written
from cellfeat.core.spreadsheet import csv_text
from cellfeat.core.text import read_text
from cellfeat.core.version import __version__
from cellfeat.data.alignment import anchor_of
from cellfeat.data.cell_ids import parts_of
from cellfeat.data.class_tree import ClassTree
from cellfeat.data.split import read_split
from cellfeat.detection.device import take_gpu
from cellfeat.errors import CellfeatError, MissingRequirement
from cellfeat.evaluation.config import EvaluationConfig
from cellfeat.evaluation.leaderboard import leaderboard
from cellfeat.evaluation.protocol import Training, complete_split, involved_domains, trainings
from cellfeat.evaluation.records import Scored
from cellfeat.evaluation.variant import score_embeddings, score_predictions
from cellfeat.methods import build
from cellfeat.methods.align import align_embeddings
from cellfeat.methods.base import demand, draws, embed_with, predict_with
from cellfeat.reporting.material import gather
from cellfeat.reporting.report import write_report
from cellfeat.store import Store, read_predictions
from cellfeat.workflows.comparison_config import CompareConfig, Entry, load_compare

log = logging.getLogger(__name__)

RESUMABLE = ("fit/**/*.ckpt", "fit/*.pt", "fit/*.safetensors")  # what methods go on from
EXAMPLES = 4  # reconstructions shown of each domain


def run_compare(path: str | Path, jobs: int = 1, ray: str | None = None) -> Path:
    """Run a comparison from its YAML.

    Args:
        path: The YAML.
        jobs: Processes of this machine that share the runs of the methods, and then their scores.
        ray: In their place, the machines of a Ray cluster; its address, see `cellfeat.core.ray_tasks.connected`.

    Returns:
        The report.

    Raises:
        CellfeatError: A fault in the YAML, results of other inputs, or a fault of a method other than a
            `MissingRequirement`; a method that lacks what it needs is left out and listed.
    """
    config = load_compare(path)
    comparison = Comparison(config, read_text(path))
    with FolderLock(config.output):
        return comparison.run(jobs, ray)


def plan_compare(path: str | Path) -> list[dict[str, Any]]:
    """What `run_compare` would do, without writing; see `Comparison.plan`."""
    return Comparison(load_compare(path), read_text(path)).plan()


@dataclass(frozen=True)
class Fit:
    """One run of a method.

    Attributes:
        record: Of its folder.
        target: What it writes.
        make: Writes it.
        pairs: Of a classifier, what it was trained on and the domains that it is tested on.
    """

    record: RunRecord
    target: Path
    make: Callable[[], Any]
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def done(self) -> bool:
        """Whether its result is there.

        Raises:
            DifferentInputs: It was made, or begun, from other inputs.
        """
        return self.record.check() and self.target.is_file()


class Comparison:
    """A comparison in its output folder."""

    def __init__(self, config: CompareConfig, text: str = "") -> None:
        self.config, self.text, self.output = config, text, config.output
        self.methods = {entry.title: build(entry.method, entry.config) for entry in config.methods}  # faults come first
        self.store = Store(config.store).with_labels(config.labels) if config.labels else Store(config.store)
        self.table, self.tree = self.store.table(), config.evaluation.tree(self.store.classes)
        given = read_split(config.split) if config.split else None
        self.split, _ = complete_split(self.table, given, config.evaluation)
        self.part = parts_of(self.split, self.table["cell_id"])
        self.learned = np.flatnonzero(self.part == "train")
        for key, name in (("anchor", config.anchor), ("adapt", config.adapt)):
            if name is not None and name not in set(self.table["domain"]):
                raise CellfeatError(f"{key}: {name!r} is no domain of {config.store}")
        aligns = config.align and any(method.kind == "embedding" for method in self.methods.values())
        self.anchor = anchor_of(self.table["domain"], config.anchor, config.same_site) if aligns else None
        labelled = self.table["label"] != ""
        self.trainings = trainings(self.table["domain"][labelled], config.evaluation)
        self.not_run: dict[str, str] = {}
        self.scored: dict[str, dict[str, Any]] = {}
        self.pictures: dict[str, np.ndarray] = {}

    def run(self, jobs: int = 1, ray: str | None = None) -> Path:
        """Make what is not there yet, by so many processes or on a Ray cluster; returns the report."""
        split = pd.DataFrame({"cell_id": self.table["cell_id"], "part": self.part})
        write_text(self.output / "split.csv", csv_text(split))
        if jobs > 1 or ray:
            self._shared_out(jobs, ray)
        for entry in self.config.methods:
            log.info("%s: %s", entry.title, self.output / "methods" / slug(entry.title))
            self.score(entry)
            self._draw(entry)
        return self._finish()

    def score(self, entry: Entry) -> None:
        """Run and score one method, or list it as one that lacks what it needs."""
        try:
            if self.methods[entry.title].kind == "embedding":
                self._embedding(entry)
            else:
                self._prediction(entry)
        except MissingRequirement as reason:
            self._leave_out(entry.title, reason)

    def _shared_out(self, jobs: int, ray: str | None) -> None:
        """Have processes make what is not there yet; who asks for it afterwards finds it in the files."""
        fits: list[tuple[str, Fit]] = []
        for entry in self.config.methods:
            with suppress(MissingRequirement):
                fits += [(entry.title, fit) for fit in self._fits(entry) if not fit.done]
        with connection(jobs, ray):
            for number, _ in shared_out(_fit, [(fit,) for _, fit in fits], jobs, ray, take_gpu):
                log.info("%s: %s", fits[number][0], fits[number][1].record.folder)
            for _ in shared_out(_score, [(self, entry) for entry in self.config.methods], jobs, ray, take_gpu):
                pass

    def plan(self) -> list[dict[str, Any]]:
        """What `run` would do, without writing: of each method its runs, those that are done, and its state in words.

        Raises:
            CellfeatError: As `run` before its first method.
        """
        planned = []
        for entry in self.config.methods:
            try:
                fits = list(self._fits(entry))
                done = sum(fit.done for fit in fits)
                runs = f"{len(fits)} run{'' if len(fits) == 1 else 's'}"
                state = f"{runs}, {'all' if done == len(fits) else done} done" if done else runs
                planned.append({"method": entry.title, "runs": len(fits), "done": done, "state": state})
            except MissingRequirement as reason:
                planned.append({"method": entry.title, "runs": 0, "done": 0, "state": f"not run: {reason}"})
        return planned

    def _fits(self, entry: Entry) -> Iterator[Fit]:
        embeds = self.methods[entry.title].kind == "embedding"
        return self._embedding_fits(entry) if embeds else self._prediction_fits(entry)

    def _embedding_fits(self, entry: Entry) -> Iterator[Fit]:
        self._ready(entry, self.learned)
        for seed in self._seeds(entry):
            folder, method = self._folder(entry, seed), self._build(entry, seed)
            target = folder / "embeddings.h5"
            make = partial(embed_with, method, self.store, self.learned, folder / "fit", target)
            yield Fit(RunRecord(folder, self._inputs(method), RESUMABLE), target, make)

    def _embedding(self, entry: Entry) -> None:
        files: dict[str, list[Path]] = {}
        seconds = 0.0
        for fit in self._embedding_fits(entry):
            seconds += _once(fit)
            files.setdefault(entry.title, []).append(fit.target)
        for by in self.config.align:
            title = f"{entry.title}+{by}"
            try:
                files[title] = [self._aligned(path, by) for path in files[entry.title]]
            except MissingRequirement as reason:
                self._leave_out(title, reason)
        for title, paths in files.items():
            inputs = {"embeddings": [sha256_file(path) for path in paths]}
            self._score(title, inputs, partial(score_embeddings, title, paths, *self._judged()), seconds)

    def _draw(self, entry: Entry) -> None:
        """Cells as a method that was run redraws them."""
        seed = self._seeds(entry)[0]
        if entry.title in self.scored and hasattr(method := self._build(entry, seed), "reconstruct"):
            fitted = self._folder(entry, seed) / "fit"
            self.pictures[entry.title] = method.reconstruct(self.store, self._examples(), fitted)

    def _aligned(self, source: Path, by: Any) -> Path:
        folder = source.parent / slug(f"{by}-{self.anchor}")
        target = folder / "embeddings.h5"
        inputs = {"embeddings": sha256_file(source), "anchor": self.anchor}
        make = partial(align_embeddings, source, target, self.table, self.learned, by, self.anchor)
        _once(Fit(RunRecord(folder, inputs, cheap=True), target, make))
        return target

    def _prediction_fits(self, entry: Entry) -> Iterator[Fit]:
        domain, label = self.table["domain"].to_numpy(str), self.table["label"].to_numpy(str)
        learned = (label != "") & (self.part == "train") & np.isin(domain, involved_domains(self.trainings))
        self._ready(entry, np.flatnonzero(learned))
        for seed, training in product(self._seeds(entry), self.trainings):
            rows, method = np.flatnonzero(learned & np.isin(domain, training.sources)), self._build(entry, seed)
            if len(set(label[rows])) < 2:  # nothing that it trains can be evaluated
                continue
            for target, tests in self._targets(method, training):
                seen = np.flatnonzero((domain == target) & ((self.part == "train") | (target not in tests)))
                asked = np.flatnonzero(np.isin(domain, tests) & (label != "") & (self.part == "test"))
                folder = self._folder(entry, seed) / slug("-to-".join(filter(None, [training.name, target])))
                path = folder / "predictions.h5"
                inputs = self._inputs(method) | {"train": training.name, "tests": list(tests)}
                inputs |= {"adapt": target} if target and self.config.adapt else {}
                make = partial(predict_with, method, self.store, rows, seen, asked, folder / "fit", path)
                pairs = tuple((training.name, test) for test in tests)
                yield Fit(RunRecord(folder, inputs, RESUMABLE), path, make, pairs)

    def _prediction(self, entry: Entry) -> None:
        files: dict[tuple[str, str], list[Path]] = {}
        seconds = 0.0
        for fit in self._prediction_fits(entry):
            seconds += _once(fit)
            for pair in fit.pairs:
                files.setdefault(pair, []).append(fit.target)
        inputs = {"predictions": sorted({sha256_file(path) for paths in files.values() for path in paths})}
        self._score(entry.title, inputs, partial(self._score_predictions, entry.title, files), seconds)

    def _targets(self, method: Any, training: Training) -> list[tuple[str, tuple[str, ...]]]:
        """What a method is fitted for: the domain that it adapts to ("" for none), and those that it is tested on."""
        if not method.adapts:
            return [("", training.tests)]
        if self.config.adapt is not None:
            return [(self.config.adapt, training.tests)]
        return [(test, (test,)) for test in training.tests]

    def _score_predictions(self, title: str, files: dict[tuple[str, str], list[Path]]) -> dict[str, Any]:
        read = {pair: [read_predictions(path) for path in paths] for pair, paths in files.items()}
        return score_predictions(title, read, *self._judged())

    def _build(self, entry: Entry, seed: int | None) -> Any:
        return build(entry.method, entry.config if seed is None else {**entry.config, "seed": seed})

    def _seeds(self, entry: Entry) -> list[int | None]:
        """The seeds to run a method with; [None] for one that draws nothing at random, or whose seed is given."""
        random = draws(self.methods[entry.title]) and "seed" not in entry.config
        return list(self.config.evaluation.run_seeds("paper")) if random else [None]

    def _folder(self, entry: Entry, seed: int | None) -> Path:
        return self.output / "methods" / slug(entry.title) / ("run" if seed is None else f"seed-{seed}")

    def _ready(self, entry: Entry, rows: np.ndarray) -> None:
        demand(self.methods[entry.title], self.store, rows)

    def _leave_out(self, title: str, reason: MissingRequirement) -> None:
        self.not_run[title] = str(reason)
        log.warning("%s: not run: %s", title, reason)

    def _inputs(self, method: Any) -> dict[str, Any]:
        weights = getattr(method.config, "weights", None)
        return {
            "method": method.name,
            "config": method.config.model_dump(mode="json"),
            "weights": sha256_file(weights) if weights else None,
            "store": self.store.digest,
            "split": digest(self.part.tolist()),
            **self._labels(),
        }

    def _labels(self) -> dict[str, str]:
        """The digest of the labels that are given; nothing where there are none, as in records made before."""
        return {"labels": sha256_file(self.config.labels)} if self.config.labels else {}

    def _judged(self) -> tuple[pd.DataFrame, pd.Series, EvaluationConfig, ClassTree]:
        return self.table, self.split, self.config.evaluation, self.tree

    def _score(self, title: str, inputs: dict[str, Any], make: Callable[[], dict[str, Any]], seconds: float) -> None:
        """Scores are cheap: they are made again when anything they depend on has changed."""
        path = self.output / "scores" / f"{slug(title)}.json"
        options = self.config.evaluation.model_dump(mode="json")
        if self.config.evaluation.classes:
            options["classes"] = sha256_file(self.config.evaluation.classes)
        wanted = {**inputs, "evaluation": options, "store": self.store.digest, "split": digest(self.part.tolist())}
        wanted |= self._labels()
        found = None
        with suppress(CellfeatError):  # there is none yet, or it is damaged or of another version
            found = read_written(Scored, path, "")
        if found is None or found["inputs"] != wanted:
            found = {"inputs": wanted, **make()}
            write_json(path, found)
        self.scored[title] = found | {"seconds": seconds}

    def _examples(self) -> np.ndarray:
        """Row numbers of a few cells of each domain that no method learned from."""
        unseen = self.table[self.part == "test"]
        chosen = unseen.groupby("domain").sample(frac=1, random_state=0).groupby("domain").head(EXAMPLES)
        return chosen.sort_values("domain", kind="stable").index.to_numpy()

    def _finish(self) -> Path:
        scored = list(self.scored.values())
        if not scored:
            reasons = "; ".join(f"{title}: {reason}" for title, reason in self.not_run.items())
            raise CellfeatError(f"{self.output}: no method could be run: {reasons}")
        ranked = leaderboard([line | {"seconds": one["seconds"]} for one in scored for line in one["lines"]])
        table = pd.DataFrame([row for one in scored for row in one["table"]])
        write_text(self.output / "leaderboard.csv", csv_text(ranked))
        write_text(self.output / "table.csv", csv_text(table))
        write_json(self.output / "confusion.json", [entry for one in scored for entry in one["confusions"]])
        options = self.config.model_dump(mode="json")
        files = ["split.csv", "leaderboard.csv", "table.csv", "confusion.json"]
        files += [f"scores/{slug(title)}.json" for title in self.scored]
        record = {
            "cellfeat": __version__,
            "files": {name: sha256_file(self.output / name) for name in files},  # half replaced ones are noticed
            "config": options,
            "store": self.store.digest,
            "not_run": self.not_run,
            "seconds": {title: one["seconds"] for title, one in self.scored.items()},
        }
        write_json(self.output / "compare.json", record)
        drawn = (self._examples(), self.pictures) if self.pictures else None
        return write_report(
            self.output / "report.html",
            gather(self.store, comparison=self.output, config_text=self.text, reconstructions=drawn),
        )


def _once(fit: Fit) -> float:
    """Make a fit's target unless it is there; returns the seconds that it took, then or now.

    Raises:
        DifferentInputs: It was made, or begun, from other inputs.
        MissingRequirement: The method lacks what it needs.
    """
    if not fit.done:
        with FolderLock(fit.record.folder):
            fit.record.begin()
            start = time.monotonic()
            fit.make()
            fit.record.done(seconds=time.monotonic() - start)
    with as_written(fit.record.path, "remove its folder and compare again"):
        found = fit.record.read()
        return float(found["seconds"]) if found else 0.0


def _fit(fit: Fit) -> None:
    """`_once` in a process of its own; who lacks what is said when the fit is asked for again."""
    with suppress(MissingRequirement):
        _once(fit)


def _score(comparison: Comparison, entry: Entry) -> None:
    comparison.score(entry)
