import shutil
from pathlib import Path

import pytest
import yaml

from cellfeat.autoencoder import network
from cellfeat.core.files import read_json
from cellfeat.core.lock import FolderLock
from cellfeat.data.synthetic import write_sites
from cellfeat.detection.checkpoint import BUILT_IN
from cellfeat.errors import Busy, CellfeatError
from cellfeat.workflows.demo import pipeline_text, run_demo
from cellfeat.workflows.pipeline import STAGES, Run, plan_pipeline, run_pipeline
from cellfeat.workflows.pipeline_config import PipelineConfig, load_pipeline

EXAMPLES = [
    path for path in sorted((Path(__file__).parents[2] / "examples").glob("*.yaml")) if "compare" not in path.stem
]


@pytest.fixture(scope="module", autouse=True)
def _narrow_image_decoder():
    """The published one takes a second a cell and step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "IMAGE_CHANNELS", (8, 8, 8, 8))
        yield


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, narrow):
    """A pipeline small enough for a test, as a dict; the network's only large part is what AE-CFE asks for."""
    root = tmp_path_factory.mktemp("pipeline")
    sites = write_sites(root / "datasets", images_per_site=26)
    overrides = {
        "MODEL.FPN.OUT_CHANNELS": 256,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "SOLVER.MAX_ITER": 2,
        "SOLVER.IMS_PER_BATCH": 2,
        "TEST.DETECTIONS_PER_IMAGE": 2,
    }
    return {
        "output": str(root / "run"),
        "data_root": str(root / "datasets"),
        "detector": {
            "config": "wbc_mask_rcnn_R_18_FPN_tiny.yaml",
            "overrides": [*narrow, *(str(part) for pair in overrides.items() for part in pair)],
            "train": [f"{sites[0]}@train"],
            "test": [f"{sites[0]}@val"],
        },
        "dump": {"datasets": sites[:2], "score_threshold": 0.0},
        "autoencoder": {"anchor": sites[0], "epochs": 1, "batch_size": 64, "image_fraction": 0.05},
        "without_alignment": True,
        "evaluation": {"runs": 1, "trees": 5, "bootstrap": 20},
    }


def write(path, content):
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def finished(pipeline, tmp_path_factory):
    """The pipeline run once: (config file, output folder)."""
    path = write(tmp_path_factory.mktemp("config") / "pipeline.yaml", pipeline)
    run_pipeline(path)
    return path, Path(pipeline["output"])


def times(output):
    return {stage: (output / stage / "stage.json").stat().st_mtime_ns for stage in STAGES}


def test_the_whole_road_ends_in_a_report(finished):
    _, output = finished
    page = (output / "report" / "report.html").read_text()
    assert "site-a" in page
    assert "site-b" in page
    assert "UMAP of the AE-CFE embedding" in page
    assert "UMAP of the AE without alignment embedding" in page
    assert all(read_json(output / stage / "stage.json")["done"] for stage in STAGES)
    assert {path.name for path in (output / "embed").glob("*.h5")} == {"aecfe.h5", "ae.h5", "rcnn.h5"}
    assert (output / "pipeline.yaml").read_text() == finished[0].read_text()


def test_results_of_the_same_settings_are_kept(finished):
    path, output = finished
    before = times(output)
    run_pipeline(path)
    assert times(output) == before


def test_a_plan_says_what_is_done_and_what_is_to_do(finished, pipeline, tmp_path):
    path, output = finished
    before = times(output)
    states = {stage["stage"]: stage["state"] for stage in plan_pipeline(path, start="evaluate")}
    assert [stage for stage in STAGES if states[stage] == "to do"] == ["evaluate", "report"]
    assert {stage["state"] for stage in plan_pipeline(path)} == {"done"}
    other = write(tmp_path / "pipeline.yaml", {**pipeline, "output": str(tmp_path / "run")})
    planned = plan_pipeline(other)
    assert {stage["state"] for stage in planned} == {"to do"}
    assert planned[0]["work"] == "trains 2 iterations of 2 images"
    assert times(output) == before
    assert not (tmp_path / "run").exists()


def test_from_redoes_a_stage_and_those_after_it(finished):
    path, output = finished
    before = times(output)
    run_pipeline(path, start="evaluate")
    changed = {stage for stage, time in times(output).items() if time != before[stage]}
    assert changed == {"evaluate", "report"}


def test_a_stage_killed_before_its_record_was_written_is_done(finished):
    path, output = finished
    for file in (output / "report").iterdir():
        file.unlink()
    (output / "report" / ".stage.json.1.partial").write_text("{")
    run_pipeline(path)
    assert (output / "report" / "report.html").is_file()


def test_a_cheap_stage_is_redone_when_its_settings_change(finished, pipeline, tmp_path):
    _, output = finished
    before = times(output)
    run_pipeline(write(tmp_path / "p.yaml", pipeline | {"evaluation": {"runs": 2, "trees": 5, "protocols": ["paper"]}}))
    changed = {stage for stage, time in times(output).items() if time != before[stage]}
    assert changed == {"evaluate", "report"}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (
            "dump",
            {"datasets": ["site-a"], "score_threshold": 0.0},
            r"dump: was made with datasets = .*; redo it with --from dump",
        ),
        (
            "autoencoder",
            {"anchor": "site-a", "epochs": 2},
            r"autoencoder: was made with options\.epochs = 1, now it is 2",
        ),
    ],
)
def test_a_costly_stage_of_other_inputs_is_not_thrown_away(finished, pipeline, tmp_path, key, value, words):
    with pytest.raises(CellfeatError, match=words):
        run_pipeline(write(tmp_path / "p.yaml", {**pipeline, key: value}))


@pytest.fixture
def own_copy(finished, pipeline, tmp_path):
    """The finished run in a folder that a test may change: (config, output folder)."""
    shutil.copytree(finished[1], tmp_path / "run")
    return {**pipeline, "output": str(tmp_path / "run")}, tmp_path / "run"


@pytest.mark.parametrize("start", [None, "detector", "report"])
def test_folders_of_something_else_are_left_alone(pipeline, tmp_path, start):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.html").write_text("mine")
    with pytest.raises(CellfeatError, match="report: holds files of something else; choose another output folder"):
        run_pipeline(write(tmp_path / "p.yaml", {**pipeline, "output": str(tmp_path)}), start)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["p.yaml", "report", "thesis.html"]


@pytest.mark.parametrize("content", [b"mine", b"\xff\xfem\x00i\x00n\x00e\x00"])
def test_a_pipeline_of_something_else_is_left_alone(pipeline, tmp_path, content):
    (tmp_path / "pipeline.yaml").write_bytes(content)
    with pytest.raises(CellfeatError, match=r"pipeline\.yaml: is not of this pipeline"):
        run_pipeline(write(tmp_path / "p.yaml", {**pipeline, "output": str(tmp_path)}))
    assert (tmp_path / "pipeline.yaml").read_bytes() == content


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"dump": {"datasets": ["site-a", "nowhere"], "score_threshold": 0.0}}, "evaluate"),
        ({"autoencoder": {"anchor": "nowhere"}}, "dump"),
        ({"autoencoder": {"anchor": "site-a", "epochs": 2}}, "embed"),
    ],
)
def test_nothing_is_removed_before_all_was_checked(own_copy, tmp_path, change, start):
    config, output = own_copy
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    with pytest.raises(CellfeatError):
        run_pipeline(write(tmp_path / "p.yaml", config | change), start)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


@pytest.mark.slow
def test_trained_weights_can_be_brought_along(finished, pipeline, tmp_path):
    weights = tmp_path / "brought.pth"
    shutil.copy(finished[1] / "detector" / "model_final.pth", weights)
    detector = {key: value for key, value in pipeline["detector"].items() if key != "train"} | {"weights": str(weights)}
    config = {**pipeline, "detector": detector, "output": str(tmp_path / "out"), "without_alignment": False}
    report = run_pipeline(write(tmp_path / "p.yaml", config))
    assert report.is_file()
    trained, brought = (
        read_json(folder / "detector" / "evaluation.json") for folder in (finished[1], tmp_path / "out")
    )
    assert trained["site-a@val"]["bbox"] == pytest.approx(brought["site-a@val"]["bbox"], abs=1e-6)


def test_without_a_detector_the_built_in_one_finds_the_cells(pipeline, tmp_path):
    config = {key: value for key, value in pipeline.items() if key != "detector"} | {"output": str(tmp_path / "out")}
    path = write(tmp_path / "p.yaml", config)
    assert Run(load_pipeline(path), "")._weighted_cfg().MODEL.WEIGHTS == BUILT_IN
    assert plan_pipeline(path)[0]["work"] == f"takes {BUILT_IN}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads(path):
    assert isinstance(load_pipeline(path), PipelineConfig)


def test_the_demos_pipeline_is_one_that_a_user_could_write(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(pipeline_text(Path("my: demo #1")), encoding="utf-8")
    loaded = load_pipeline(path)
    assert loaded.dump.datasets == ["site-a", "site-b", "site-c"]
    assert (loaded.output, loaded.data_root) == (Path("my: demo #1/run"), Path("my: demo #1/datasets"))


def test_the_demo_leaves_another_pipeline_alone(tmp_path):
    (tmp_path / "pipeline.yaml").write_text("output: mine\n")
    with pytest.raises(CellfeatError, match=r"pipeline.yaml: is not the demo's; run it with `cellfeat run`"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.yaml"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dmup": {}}, "dmup: unknown key"),
        ({"dump": {"datasets": []}}, "dump.datasets"),
        ({"dump": {"datasets": ["a"], "select": "nearest"}}, "dump.select"),
        ({"detector": {"config": "x.yaml"}}, "either train .* or weights"),
        ({"autoencoder": {"epochs": "many"}}, "autoencoder.epochs"),
        ({"output": None}, "output"),
    ],
)
def test_a_faulty_pipeline_is_one_line_that_names_the_place(pipeline, tmp_path, change, words):
    with pytest.raises(CellfeatError, match=words) as error:
        load_pipeline(write(tmp_path / "p.yaml", {**pipeline, **change}))
    assert "p.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "output: {"])
def test_what_is_no_pipeline_is_named(tmp_path, text):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(CellfeatError, match=r"p\.yaml: not"):
        load_pipeline(path)


def test_an_output_folder_that_another_run_writes_is_refused(pipeline, tmp_path):
    with FolderLock(tmp_path / "o"), pytest.raises(Busy, match="another process is writing here"):
        run_pipeline(write(tmp_path / "p.yaml", {**pipeline, "output": str(tmp_path / "o")}))


def test_an_unknown_stage_is_named(pipeline, tmp_path):
    with pytest.raises(CellfeatError, match="--from training"):
        run_pipeline(write(tmp_path / "p.yaml", {**pipeline, "output": str(tmp_path / "o")}), start="training")
