"""A comparison on a small store, with methods that cost nothing and one that predicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pickled import in_this_process
from pydantic import BaseModel, ConfigDict

from cellfeat import errors
from cellfeat.core.files import read_json, write_json
from cellfeat.errors import CellfeatError
from cellfeat.methods import register
from cellfeat.store import CellRow, ImageResult, StoreWriter
from cellfeat.workflows.comparison import plan_compare, run_compare
from cellfeat.workflows.comparison_config import load_compare

CLASSES = ("blast", "eosinophil", "lymphocyte")
FITTED: list[tuple[int, str]] = []


class OracleConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    seed: int = 0
    adapts: bool = False
    weights: Path | None = None
    needs_weights: bool = False
    draws: bool = True
    fails: str = ""  # the error's type


@register("oracle")
@dataclass(frozen=True)
class Oracle:
    """Knows the class of every cell; looks it up where a method would compute."""

    config: OracleConfig
    Config = OracleConfig
    kind = "prediction"
    name = "oracle"
    title = "the classes as they are labelled"

    @property
    def adapts(self):
        return self.config.adapts

    @property
    def draws(self):
        return self.config.draws

    @property
    def needs(self):
        return frozenset({"labels", *(["weights"] if self.config.needs_weights else [])})

    def fit(self, store, rows, folder, target_rows):
        if self.config.fails:
            raise getattr(errors, self.config.fails)("oracle: step 3")
        FITTED.append((self.config.seed, store.table()["domain"][rows[0]], len(target_rows)))

    def predict(self, store, rows, folder):
        label = store.table()["label"].to_numpy()[rows]
        return CLASSES, np.eye(3, dtype=np.float32)[[CLASSES.index(name) for name in label]]


@pytest.fixture(autouse=True)
def _nothing_fitted():
    FITTED.clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Two sites of three classes, 20 cells each; the second site's features are shifted."""
    path, rng = tmp_path_factory.mktemp("compare") / "store", np.random.default_rng(0)
    with StoreWriter(path, (3, 2, 2), 16, {"made": "here"}) as writer:
        for site, shift in (("a", 0), ("b", 5)):
            for k in range(60):
                feature = np.eye(3, dtype=np.float32)[k % 3][:, None, None] + rng.normal(shift, 0.05, (3, 2, 2))
                crop, mask = rng.integers(0, 255, (16, 16, 3), np.uint8), np.ones((16, 16), np.uint8)
                box = np.array([0, 0, 16, 16], np.float32)
                cell = CellRow(feature, crop, mask, box, 0.9, CLASSES[k % 3])
                writer.add(ImageResult(f"{site}/{k}.png", site, CLASSES[k % 3], 32, 32, "", [cell]))
    return path


def write(tmp_path, store, **changes) -> Path:
    content = {
        "store": str(store),
        "output": str(tmp_path / "out"),
        "methods": ["rcnn", {"method": "oracle", "config": {"seed": 3}}],
        "align": ["coral"],
        "anchor": "a",
        "evaluation": {"runs": 2, "trees": 5, "bootstrap": 50},
    }
    path = tmp_path / "compare.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def test_a_comparison_ends_in_a_leaderboard_and_is_not_made_twice(tmp_path, store):
    path = write(tmp_path, store)
    assert [one["state"] for one in plan_compare(path)] == ["1 run", "2 runs"]
    assert not (tmp_path / "out").exists()
    report = run_compare(path)
    assert [one["state"] for one in plan_compare(path)] == ["1 run, all done", "2 runs, all done"]
    lines = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert lines["protocol"].tolist() == ["paper"] * 3 + ["shared"] * 3
    board = lines[:3].set_index("method")
    assert set(board.index) == {"oracle", "rcnn", "rcnn+coral"}
    assert board["across_accuracy"]["oracle"] == board["within_accuracy"]["rcnn"] == 1
    assert board["across_accuracy"]["rcnn"] < 0.6  # the second site is shifted
    assert board["across_accuracy"]["rcnn+coral"] == 1
    assert board["domain_accuracy"]["rcnn"] == 1 > board["domain_accuracy"]["rcnn+coral"]
    assert board["runs"].to_dict() == {"oracle": 1, "rcnn": 2, "rcnn+coral": 2}
    text = report.read_text()
    assert "R-CNN features + CORAL" in text
    assert "HAHO challenge article" in text
    assert "of more than 3,000, on so many drawn at random" in text
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*/**/*") if file.is_file()}
    calls = len(FITTED)
    run_compare(path)
    assert len(FITTED) == calls
    assert {file: file.stat().st_mtime_ns for file in made} == made

    scores = tmp_path / "out" / "scores" / "rcnn.json"
    whole = read_json(scores)
    write_json(scores, whole | {"table": [whole["table"][0] | {"mean": "0.5"}]})  # or of another form
    run_compare(path)
    assert read_json(scores) == whole
    record = next((tmp_path / "out" / "methods" / "rcnn").rglob("record.json"))
    write_json(record, {name: value for name, value in read_json(record).items() if name != "seconds"})
    with pytest.raises(
        CellfeatError, match=r"record\.json: is not as .*'seconds'.*; remove its folder and compare again"
    ):
        run_compare(path)


def test_processes_make_what_one_would(tmp_path, store, monkeypatch):
    monkeypatch.setattr("cellfeat.core.processes.in_processes", in_this_process)
    lacking = {"method": "oracle", "label": "lacking", "config": {"fails": "MissingRequirement"}}
    entries, boards = ["rcnn", {"method": "oracle", "config": {"adapts": True}}, lacking], []
    for name, jobs in (("one", 1), ("several", 3)):
        (tmp_path / name).mkdir()
        FITTED.clear()
        run_compare(
            write(tmp_path / name, store, methods=entries, evaluation={"runs": 1, "trees": 3, "bootstrap": 9}), jobs
        )
        assert len(FITTED) == 4
        boards.append(pd.read_csv(tmp_path / name / "out/leaderboard.csv").drop(columns="seconds"))
    pd.testing.assert_frame_equal(*boards)
    assert (tmp_path / "one/out/table.csv").read_text() == (tmp_path / "several/out/table.csv").read_text()
    assert read_json(tmp_path / "several/out/compare.json")["not_run"] == {"lacking": "oracle: step 3"}


def test_a_ray_cluster_makes_what_one_process_makes(ray, tmp_path, store):
    tables = []
    for name, cluster in (("one", None), ("ray", "local")):
        (tmp_path / name).mkdir()
        given = {"methods": ["rcnn"], "align": [], "evaluation": {"runs": 1, "trees": 3, "bootstrap": 9}}
        run_compare(write(tmp_path / name, store, **given), ray=cluster)
        tables.append((tmp_path / name / "out/table.csv").read_text())
    assert tables[0] == tables[1]
    with pytest.raises(CellfeatError, match="--jobs and --ray each share the work out"):
        run_compare(tmp_path / "one" / "compare.yaml", 2, "local")


def test_a_random_method_has_a_run_a_seed_and_one_that_adapts_a_fit_a_target(tmp_path, store):
    entries = [
        {"method": "oracle", "label": "plain"},
        {"method": "oracle", "label": "adapting", "config": {"adapts": True}},
        {"method": "oracle", "label": "certain", "config": {"draws": False}},
    ]
    run_compare(write(tmp_path, store, methods=entries))
    plain = [(seed, site, 0) for seed in (0, 1) for site in "ab"]
    adapting = [(seed, site, 48) for seed in (0, 1) for site in "ab" for _ in "ab"]
    certain = [(0, site, 0) for site in "ab"]
    assert plain + adapting + certain == FITTED
    runs = pd.read_csv(tmp_path / "out" / "leaderboard.csv").set_index("method")["runs"]
    assert {label: set(runs[[label]]) for label in ("plain", "adapting", "certain")} == {
        "plain": {2},
        "adapting": {2},
        "certain": {1},
    }


def test_what_cannot_be_run_is_listed_and_the_rest_goes_on(tmp_path, store):
    entries = [
        "rcnn",
        {"method": "oracle", "label": "unweighted", "config": {"needs_weights": True}},
        {"method": "oracle", "label": "lacking", "config": {"fails": "MissingRequirement"}},
    ]
    report = run_compare(write(tmp_path, store, methods=entries, align=[]))
    not_run = read_json(tmp_path / "out" / "compare.json")["not_run"]
    assert not_run == {
        "unweighted": "oracle: lacks weights: give the path of the file in its config",
        "lacking": "oracle: step 3",
    }
    assert plan_compare(tmp_path / "compare.yaml")[1]["state"] == f"not run: {not_run['unweighted']}"
    assert "step 3" in report.read_text()
    assert set(pd.read_csv(tmp_path / "out" / "leaderboard.csv")["method"]) == {"rcnn"}


@pytest.mark.parametrize("kind", ["CellfeatError", "Damaged", "CannotWrite"])
def test_any_other_fault_ends_a_comparison_and_a_corrected_one_goes_on(tmp_path, store, kind):
    entry = {"method": "oracle", "config": {"seed": 0, "fails": kind}}
    with pytest.raises(getattr(errors, kind), match="step 3"):
        run_compare(write(tmp_path, store, methods=["rcnn", entry], align=[]))
    entry["config"]["fails"] = ""
    assert run_compare(write(tmp_path, store, methods=["rcnn", entry], align=[])).is_file()


def test_where_nothing_can_be_run_the_reasons_are_told(tmp_path, store):
    with pytest.raises(CellfeatError, match="no method could be run: oracle: oracle: lacks weights"):
        run_compare(write(tmp_path, store, methods=[{"method": "oracle", "config": {"needs_weights": True}}]))


def test_a_result_of_another_config_is_not_thrown_away(tmp_path, store):
    entry = {"method": "colour", "config": {"side": 4}}
    run_compare(write(tmp_path, store, methods=[entry], align=[]))
    with pytest.raises(CellfeatError, match=r"colour/run: was made with config\.side = 4, now it is 5"):
        run_compare(write(tmp_path, store, methods=[entry | {"config": {"side": 5}}], align=[]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": []}, "methods"),
        ({"methods": ["rcnn", "rcnn"]}, "rcnn occurs twice"),
        ({"methods": ["rcn"]}, "'rcn': there is none"),
        ({"methods": [{"method": "rcnn", "config": {"x": 1}}]}, "rcnn: x: unknown key"),
        ({"align": ["procrustes"]}, "align.0"),
        ({"evaluation": {"protocols": ["code"]}}, "protocol code makes a split of its own"),
        ({"evaluation": {"protocols": None}}, "evaluation.protocols"),
        ({"evaluation": {"domains": ["c"]}}, "'c' has no labelled cell"),
        ({"anchor": "c"}, "anchor: 'c' is no domain"),
        ({"anchor": None}, "anchor: not given, and Matek-19 is not among the domains; name the domain .*: a, b"),
        ({"seeds": 5}, "seeds: unknown key"),
        ({"adapt": "c"}, "adapt: 'c' is no domain"),
        ({"evaluation": {"train": [["a", "c"]]}}, "train: 'c' has no labelled cell"),
        ({"evaluation": {"train": [["a", "a"]]}}, "evaluation.train.* names one twice"),
        ({"evaluation": {"train": [["a", "b"], ["b", "a"]]}}, r"evaluation.train.*a \+ b occurs twice"),
        ({"evaluation": {"train": []}}, "evaluation.train.* names no domain"),
        ({"evaluation": {"train": "leave-one-out", "domains": ["a"]}}, "leave-one-out needs two labelled domains"),
    ],
)
def test_a_faulty_comparison_is_one_line(tmp_path, store, changes, words):
    with pytest.raises(CellfeatError, match=words) as error:
        run_compare(write(tmp_path, store, **changes))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_every_example_loads():
    for path in (Path(__file__).parents[2] / "examples").glob("compare*.yaml"):
        assert load_compare(path).methods


@pytest.fixture(scope="module")
def three_sites(tmp_path_factory) -> Path:
    """Two labelled sites, a third with labels and a fourth without."""
    path, rng = tmp_path_factory.mktemp("pooled") / "store", np.random.default_rng(0)
    with StoreWriter(path, (3, 2, 2), 16, {"made": "here"}) as writer:
        for site in ("munich", "barcelona", "wbc2", "wbc1"):
            for k in range(30):
                label = "" if site == "wbc1" else CLASSES[k % 3]
                feature = np.eye(3, dtype=np.float32)[k % 3][:, None, None] + rng.normal(0, 0.05, (3, 2, 2))
                crop, mask = rng.integers(0, 255, (16, 16, 3), np.uint8), np.ones((16, 16), np.uint8)
                cell = CellRow(feature, crop, mask, np.array([0, 0, 16, 16], np.float32), 0.9, label)
                writer.add(ImageResult(f"{site}/{k}.png", site, label, 32, 32, "", [cell]))
    return path


def test_two_sources_are_pooled_one_is_adapted_to_and_another_tested(tmp_path, three_sites):
    """The challenge article's experiment: Acevedo and Matek with labels, WBC1 without, WBC2 to be tested."""
    path = write(
        tmp_path,
        three_sites,
        methods=[{"method": "oracle", "config": {"seed": 0, "adapts": True}}],
        align=[],
        anchor=None,
        adapt="wbc1",
        evaluation={"train": [["munich", "barcelona"]], "runs": 1, "trees": 5, "bootstrap": 0},
    )
    report = run_compare(path).read_text()
    assert FITTED == [(0, "munich", 30)]  # once, from the first cell of the pool on, with all of the unlabelled site
    table = pd.read_csv(tmp_path / "out" / "table.csv").query("metric == 'accuracy' and protocol == 'paper'")
    assert set(table["train"]) == {"barcelona + munich"}
    assert dict(zip(table["test"], table["where"])) == {"barcelona": "within", "munich": "within", "wbc2": "across"}
    assert set(table["n_train"]) == {48}  # four fifths of two sites
    assert (table["mean"] == 1).all()
    assert "barcelona + munich" in report
    assert "saw wbc1 without its labels" in report
    lines = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert {"across_accuracy", "across_macro_f1", "within_macro_f1"} <= set(lines)  # accuracy is the micro-F1


def test_leave_one_out_learns_from_all_but_the_tested_domain(tmp_path, three_sites):
    evaluation = {"train": "leave-one-out", "runs": 1, "trees": 5, "bootstrap": 0}
    entry = {"method": "oracle", "config": {"seed": 0}}
    run_compare(write(tmp_path, three_sites, methods=[entry], align=[], anchor=None, evaluation=evaluation))
    table = pd.read_csv(tmp_path / "out" / "table.csv").query("metric == 'accuracy' and protocol == 'paper'")
    assert set(zip(table["train"], table["test"])) == {
        ("munich + wbc2", "barcelona"),
        ("barcelona + wbc2", "munich"),
        ("barcelona + munich", "wbc2"),
    }
    assert len(FITTED) == 3
    assert set(table["where"]) == {"across"}
