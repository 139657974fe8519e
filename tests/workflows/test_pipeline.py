import shutil
from pathlib import Path

import pytest
import yaml

from cellfeat.core.files import read_json, write_json
from cellfeat.data.synthetic import write_sites
from cellfeat.errors import CellfeatError
from cellfeat.workflows.demo import PIPELINE
from cellfeat.workflows.pipeline import STAGES, PipelineConfig, load_pipeline, run_pipeline

EXAMPLES = [
    path for path in sorted((Path(__file__).parents[2] / "examples").glob("*.yaml")) if "compare" not in path.stem
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A pipeline small enough for a test, as a dict; the network's only large part is what AE-CFE asks for."""
    root = tmp_path_factory.mktemp("pipeline")
    sites = write_sites(root / "datasets", images_per_site=26)
    overrides = {
        "MODEL.DEVICE": "cpu",
        "INPUT.MIN_SIZE_TRAIN": "(64,)",
        "INPUT.MIN_SIZE_TEST": 64,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "SOLVER.MAX_ITER": 2,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.AMP.ENABLED": False,
        "TEST.DETECTIONS_PER_IMAGE": 2,
        "SEED": 0,
    }
    return {
        "output": str(root / "run"),
        "data_root": str(root / "datasets"),
        "detector": {
            "config": "wbc_mask_rcnn_R_18_FPN_tiny.yaml",
            "overrides": [str(part) for pair in overrides.items() for part in pair],
            "train": [f"{sites[0]}@train"],
            "test": [f"{sites[0]}@val"],
        },
        "dump": {"datasets": sites[:2], "score_threshold": 0.0},
        "autoencoder": {"anchor": sites[0], "epochs": 1, "batch_size": 64, "image_fraction": 0.05},
        "evaluation": {"runs": 1},
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
    assert all(read_json(output / stage / "stage.json")["done"] for stage in STAGES)
    assert {path.name for path in (output / "embed").glob("*.h5")} == {"aecfe.h5", "rcnn.h5"}
    assert (output / "pipeline.yaml").read_text() == finished[0].read_text()


def test_what_stands_is_not_made_again(finished):
    path, output = finished
    before = times(output)
    run_pipeline(path)
    assert times(output) == before


def test_from_redoes_a_stage_and_those_after_it(finished):
    path, output = finished
    before = times(output)
    run_pipeline(path, start="evaluate")
    changed = {stage for stage, time in times(output).items() if time != before[stage]}
    assert changed == {"evaluate", "report"}


def test_an_interrupted_stage_is_finished(finished):
    path, output = finished
    record = read_json(output / "report" / "stage.json")
    write_json(output / "report" / "stage.json", record | {"done": False})
    (output / "report" / "report.html").unlink()
    run_pipeline(path)
    assert (output / "report" / "report.html").is_file()


def test_a_cheap_stage_is_made_anew_when_its_settings_change(finished, pipeline, tmp_path):
    _, output = finished
    before = times(output)
    run_pipeline(write(tmp_path / "p.yaml", pipeline | {"evaluation": {"runs": 2, "protocols": ["paper"]}}))
    changed = {stage for stage, time in times(output).items() if time != before[stage]}
    assert changed == {"evaluate", "report"}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("dump", {"datasets": ["site-a"], "score_threshold": 0.0}, "dump: was made with another datasets"),
        ("autoencoder", {"epochs": 2}, "autoencoder: was made with another options"),
    ],
)
def test_a_costly_stage_of_other_inputs_is_not_thrown_away(finished, pipeline, tmp_path, key, value, words):
    with pytest.raises(CellfeatError, match=words):
        run_pipeline(write(tmp_path / "p.yaml", {**pipeline, key: value}))


def test_a_foreign_folder_is_left_alone(pipeline, tmp_path):
    (tmp_path / "out" / "detector").mkdir(parents=True)
    with pytest.raises(CellfeatError, match="not of this pipeline"):
        run_pipeline(write(tmp_path / "p.yaml", {**pipeline, "output": str(tmp_path / "out")}))


def test_trained_weights_can_be_brought_along(finished, pipeline, tmp_path):
    weights = tmp_path / "brought.pth"
    shutil.copy(finished[1] / "detector" / "model_final.pth", weights)
    detector = {key: value for key, value in pipeline["detector"].items() if key != "train"} | {"weights": str(weights)}
    config = {**pipeline, "detector": detector, "output": str(tmp_path / "out")}
    report = run_pipeline(write(tmp_path / "p.yaml", config))
    assert report.is_file()
    trained, brought = (
        read_json(folder / "detector" / "evaluation.json") for folder in (finished[1], tmp_path / "out")
    )
    assert trained["site-a@val"]["bbox"] == pytest.approx(brought["site-a@val"]["bbox"], abs=1e-6)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads(path):
    assert isinstance(load_pipeline(path), PipelineConfig)


def test_the_demos_pipeline_is_one_that_a_user_could_write(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(PIPELINE.format(folder="demo", sites="a, b", train="a@train", test="a@val", anchor="a"))
    assert load_pipeline(path).dump.datasets == ["a", "b"]


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


def test_an_unknown_stage_is_named(pipeline, tmp_path):
    with pytest.raises(CellfeatError, match="--from training"):
        run_pipeline(write(tmp_path / "p.yaml", {**pipeline, "output": str(tmp_path / "o")}), start="training")
