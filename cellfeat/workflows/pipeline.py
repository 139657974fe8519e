"""All stages from one config: detector → dump → autoencoder → embed → evaluate → report, each done once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fvcore.common.config import CfgNode

from cellfeat.core.files import digest, read_json, sha256_file, write_text
from cellfeat.core.lock import FolderLock
from cellfeat.core.run_record import STAGE, RunRecord, differences
from cellfeat.core.text import read_text
from cellfeat.data.catalogue import Dataset, open_dataset
from cellfeat.data.class_tree import joined_classes
from cellfeat.detection.checkpoint import resolve_weights
from cellfeat.detection.config import find_config, load_config, portable
from cellfeat.detection.run_folder import FINAL
from cellfeat.detection.train_net import evaluate, scores_table, train
from cellfeat.errors import CellfeatError, DifferentInputs
from cellfeat.workflows.dump import dump
from cellfeat.workflows.dump_config import DumpConfig
from cellfeat.workflows.dump_summary import summary_table
from cellfeat.workflows.pipeline_config import PipelineConfig, load_pipeline

if TYPE_CHECKING:
    from cellfeat.reporting.material import Reconstructions

log = logging.getLogger(__name__)

EXAMPLES = 6  # reconstructions shown of each domain
COPY = "pipeline.yaml"  # in the output folder: the YAML of the last run
UNALIGNED = "without-alignment"  # folder within the autoencoder's
STAGES = ("detector", "dump", "autoencoder", "embed", "evaluate", "report")


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline.

    Attributes:
        name: Also the name of its folder.
        inputs: What its result depends on, besides the stages before it.
        make: Makes the result in its folder.
        costly: A result of other inputs is refused; that of another stage is replaced.
        resumable: Files in its folder from which an interrupted run goes on.
        work: What there is to do, for people: "150 epochs".
    """

    name: str
    inputs: dict[str, Any]
    make: Callable[[Path], None]
    costly: bool = False
    resumable: tuple[str, ...] = ()
    work: str = ""


class Run:
    """A pipeline in its output folder."""

    def __init__(self, config: PipelineConfig, config_text: str) -> None:
        self.config, self.text = config, config_text
        self.output = config.output

    def run(self, start: str | None = None) -> Path:
        """Do the stages whose results are not there yet. Nothing is written or removed before all settings, names and
        folders were checked.

        Args:
            start: Redo this stage and all after it.

        Returns:
            The report.

        Raises:
            Busy: Another run is writing the output folder.
            CellfeatError: An unknown stage, a result of other inputs, or a folder that is not of this pipeline.
        """
        steps, kept = self._checked(start)
        with FolderLock(self.output):
            self._check(steps, kept)  # another run may have been at work until now
            for _, record in steps[kept:]:
                record.discard()
            for stage, record in steps:
                self._do(stage, record)
        return self.output / "report" / "report.html"

    def plan(self, start: str | None = None) -> list[dict[str, str]]:
        """What `run` would do, without writing: stage, state (done, to do, continues) and work of each stage.

        Raises:
            CellfeatError: As `run` before its first stage.
        """
        steps, kept = self._checked(start)
        planned = []
        for k, (stage, record) in enumerate(steps):
            state = "done" if k < kept and _is_done(stage, record) else "to do"
            if state == "to do" and k < kept and record.begun():
                state = "continues"
            planned.append({"stage": stage.name, "state": state, "work": stage.work})
        return planned

    def _checked(self, start: str | None) -> tuple[list[tuple[Stage, RunRecord]], int]:
        """The stages with their records, and how many of them may be kept."""
        if start is not None and start not in STAGES:
            raise CellfeatError(f"--from {start}: no such stage; choose from {', '.join(STAGES)}")
        kept = STAGES.index(start) if start else len(STAGES)
        steps = list(self._steps())
        self._check(steps, kept)
        return steps, kept

    def _do(self, stage: Stage, record: RunRecord) -> None:
        if _is_done(stage, record):
            log.info("%s: already done, %s", stage.name, record.folder)
            return
        log.info("%s: %s", stage.name, record.folder)
        record.begin()
        write_text(self.output / COPY, self.text)
        stage.make(record.folder)
        record.done()

    def _steps(self) -> Iterator[tuple[Stage, RunRecord]]:
        """Each stage with its record, whose inputs contain the digest of all that the stages before it depend on."""
        before = ""
        for build in (self._detector, self._dump, self._autoencoder, self._embed, self._evaluate, self._report):
            stage = build()
            inputs = {**stage.inputs, "before": before}
            before = digest({"inputs": inputs})
            folder = self.output / stage.name
            yield stage, RunRecord(folder, inputs, stage.resumable, STAGE, cheap=not stage.costly)

    def _check(self, steps: Sequence[tuple[Stage, RunRecord]], kept: int) -> None:
        """What can be checked before the first stage: names, and that each file to replace is of this pipeline."""
        detector, domains = (
            self.config.detector,
            {self._dataset(name).spec.domain for name in self.config.dump.datasets},
        )
        for name in (*detector.train, *detector.test):
            self._dataset(name)
        if (anchor := self.config.autoencoder.anchor) is not None and anchor not in domains:
            raise CellfeatError(
                f"autoencoder.anchor: {anchor!r} is no domain of dump.datasets",
                f"choose from {', '.join(sorted(domains))}",
            )
        copy = self.output / COPY
        if (
            copy.exists()
            and copy.read_text(encoding="utf-8", errors="replace") != self.text  # of something else, in any encoding
            and not any(r.path.exists() for _, r in steps)
        ):
            raise CellfeatError(f"{copy}: is not of this pipeline", "choose another output folder")
        for _, record in steps:
            record.check_owner()
        for stage, record in steps[:kept]:
            _is_done(stage, record)

    def _dataset(self, name: str) -> Dataset:
        return open_dataset(name, self.config.data_root)

    def _detector(self) -> Stage:
        resumable, cfg = ("last_checkpoint", "*.pth"), self._weighted_cfg()
        trained = f"trains {cfg.SOLVER.MAX_ITER} iterations of {cfg.SOLVER.IMS_PER_BATCH} images"
        work = trained if self.config.detector.train else f"takes {cfg.MODEL.WEIGHTS}"
        return Stage("detector", self._detector_inputs(), self._make_detector, True, resumable, work)

    def _detector_inputs(self) -> dict[str, Any]:
        cfg = self._detector_cfg()
        weights = self.config.detector.weights or cfg.MODEL.WEIGHTS
        return {"config": portable(cfg), "weights": sha256_file(resolve_weights(weights)) if weights else None}

    def _detector_cfg(self) -> CfgNode:
        detector = self.config.detector
        overrides = [*detector.overrides, "OUTPUT_DIR", str(self.output / "detector")]
        for key, names in (("DATASETS.TRAIN", detector.train), ("DATASETS.TEST", detector.test)):
            overrides += [key, repr(tuple(names))]
        return load_config(find_config(detector.config), overrides)

    def _make_detector(self, folder: Path) -> None:
        cfg, detector, root = self._detector_cfg(), self.config.detector, self.config.data_root
        if detector.train:
            scores = train(cfg, resume=True, engine=detector.engine, data_root=root)
        elif cfg.DATASETS.TEST:
            scores = evaluate(self._weighted_cfg(), detector.engine, data_root=root)
        else:
            scores = {}
        log.info("%s", scores_table(scores))

    def _weighted_cfg(self) -> CfgNode:
        cfg = self._detector_cfg().clone()
        cfg.defrost()
        if self.config.detector.train:
            cfg.MODEL.WEIGHTS = str(self.output / "detector" / FINAL)
        else:
            cfg.MODEL.WEIGHTS = self.config.detector.weights or cfg.MODEL.WEIGHTS
        return cfg

    def _dump(self) -> Stage:
        def make(folder: Path) -> None:
            dump(
                self._weighted_cfg(),
                stage.datasets,
                folder / "store",
                options,
                detector.engine,
                data_root=self.config.data_root,
            )
            log.info("%s", summary_table(read_json(folder / "store" / "summary.json")))

        stage, detector = self.config.dump, self.config.detector
        options = DumpConfig(**stage.model_dump(exclude={"datasets"}))
        images = [record.identity for name in stage.datasets for record in self._dataset(name).records()]
        inputs = {"options": options.model_dump(), "datasets": stage.datasets, "images": digest(images)}
        if classes := joined_classes({name: self._dataset(name).classes for name in stage.datasets}).own:
            inputs["classes"] = classes
        work = f"{len(images)} images of {len(stage.datasets)} datasets"
        return Stage("dump", inputs, make, True, ("store/shards/*.h5",), work)

    def _autoencoder(self) -> Stage:
        def make(folder: Path) -> None:
            from cellfeat.data.split import stratified_split

            store = self._store()
            part = stratified_split(store.table(), options.test_fraction, options.seed).to_numpy()
            self._aecfe().fit(store, np.flatnonzero(part == "train"), folder)
            if self.config.without_alignment:
                self._ae().fit(store, np.flatnonzero(part == "train"), folder / UNALIGNED)

        from cellfeat.autoencoder.data import order_domains

        options = self.config.autoencoder
        domains = [self._dataset(name).spec.domain for name in self.config.dump.datasets]
        order_domains(domains, options.anchor, options.beta > 0)  # a missing anchor is told before hours of work
        resumable = ("checkpoints/*.ckpt", "autoencoder.safetensors")
        inputs = {"options": options.model_dump()} | ({UNALIGNED: True} if self.config.without_alignment else {})
        work = f"{options.epochs} epochs{', twice' if self.config.without_alignment else ''}"
        return Stage("autoencoder", inputs, make, True, resumable, work)

    def _aecfe(self) -> Any:
        from cellfeat.methods import build

        return build("aecfe", self.config.autoencoder.model_dump())

    def _ae(self) -> Any:
        """The same network with the same settings, without alignment."""
        from cellfeat.methods import build
        from cellfeat.methods.ae import AEConfig

        return build("ae", self.config.autoencoder.model_dump() | AEConfig.without_effect)

    def _embed(self) -> Stage:
        def make(folder: Path) -> None:
            from cellfeat.methods import build
            from cellfeat.methods.base import embed_with, write_embedded

            store = self._store()
            write_embedded(self._aecfe(), store, self.output / "autoencoder", folder / "aecfe.h5")
            if self.config.without_alignment:
                write_embedded(self._ae(), store, self.output / "autoencoder" / UNALIGNED, folder / "ae.h5")
            embed_with(build("rcnn"), store, np.arange(0), folder, folder / "rcnn.h5")

        return Stage("embed", {}, make, work=f"{len(self._embeddings())} methods")

    def _evaluate(self) -> Stage:
        def make(folder: Path) -> None:
            from cellfeat.evaluation import evaluate

            evaluate(self._store(), self._embeddings(), folder, options, self.output / "autoencoder" / "split.csv")

        options = self.config.evaluation
        classes = {"classes": sha256_file(options.classes)} if options.classes else {}
        work = f"protocols {', '.join(options.protocols)}, {options.runs} runs"
        return Stage("evaluate", {"options": options.model_dump(), **classes}, make, work=work)

    def _report(self) -> Stage:
        def make(folder: Path) -> None:
            from cellfeat.reporting.material import gather
            from cellfeat.reporting.report import write_report

            write_report(
                folder / "report.html",
                gather(
                    self._store(),
                    self._embeddings(),
                    evaluation=self.output / "evaluate",
                    autoencoder=self.output / "autoencoder",
                    detector=self.output / "detector",
                    config_text=self.text,
                    reconstructions=self._reconstructions(),
                    same_site=self._same_site(),
                ),
            )

        return Stage("report", {"config": self.text}, make, work=str(self.output / "report" / "report.html"))

    def _store(self) -> Any:
        from cellfeat.store import Store

        return Store(self.output / "dump" / "store")

    def _embeddings(self) -> list[Path]:
        methods = ["aecfe", "ae", "rcnn"] if self.config.without_alignment else ["aecfe", "rcnn"]
        return [self.output / "embed" / f"{method}.h5" for method in methods]

    def _reconstructions(self) -> Reconstructions:
        """A few cells of each domain that the autoencoder never saw, beside what it makes of them."""
        from cellfeat.data.cell_ids import parts_of
        from cellfeat.data.split import read_split

        store, folder = self._store(), self.output / "autoencoder"
        table = store.table()
        part = parts_of(read_split(folder / "split.csv"), table["cell_id"])
        unseen = table[part == "test"]
        chosen = unseen.groupby("domain").sample(frac=1, random_state=0).groupby("domain").head(EXAMPLES)
        rows = chosen.sort_values("domain", kind="stable").index.to_numpy()
        images = self._aecfe().reconstruct(store, rows, folder)
        return rows, {"aecfe": images}

    def _same_site(self) -> dict[str, str]:
        specs = [self._dataset(name).spec for name in self.config.dump.datasets]
        return {spec.domain: spec.same_site_as for spec in specs if spec.same_site_as}


def _is_done(stage: Stage, record: RunRecord) -> bool:
    """`RunRecord.check`; a refusal says how to redo the stage."""
    try:
        return record.check()
    except DifferentInputs as error:
        before = record.read()
        changed = [key for key, _, _ in differences(before["inputs"] if before else {}, record.inputs)]
        what = error.what
        if changed == ["before"]:
            what = f"{record.folder}: was made from another result of the stage before it"
        raise DifferentInputs(what, f"redo it with --from {stage.name}, or choose another output") from None


def run_pipeline(path: str | Path, start: str | None = None) -> Path:
    """Run a pipeline's YAML to its report; see `Run.run`."""
    config = load_pipeline(path)
    return Run(config, read_text(path)).run(start)


def plan_pipeline(path: str | Path, start: str | None = None) -> list[dict[str, str]]:
    """What `run_pipeline` would do, without writing; see `Run.plan`."""
    return Run(load_pipeline(path), read_text(path)).plan(start)
