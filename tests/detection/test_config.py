from pathlib import Path

import pytest

from cellfeat.detection.config import config_dir, find_config, flatten, load_config, portable
from cellfeat.errors import CellfeatError

YAMLS = sorted(config_dir().glob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_config_that_comes_along_loads(path):
    cfg = load_config(path)
    assert (6 if "faster" in path.stem else 1) == cfg.MODEL.ROI_HEADS.NUM_CLASSES
    assert cfg.is_frozen()


def test_the_configs_are_there():
    masks = {"wbc_mask_rcnn_R_101_FPN", "wbc_mask_rcnn_R_50_FPN", "wbc_mask_rcnn_R_18_FPN_tiny"}
    assert masks | {"wbc_faster_rcnn_R_101_FPN", "wbc_faster_rcnn_VGG16_FPN"} < {path.stem for path in YAMLS}


def test_overrides_are_detectron2s_pairs():
    cfg = load_config(YAMLS[0], ["SOLVER.BASE_LR", "0.5", "DATASETS.TRAIN", "('a', 'b')", "MODEL.WEIGHTS", "w.pth"])
    assert (cfg.SOLVER.BASE_LR, cfg.DATASETS.TRAIN, cfg.MODEL.WEIGHTS) == (0.5, ("a", "b"), "w.pth")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["MODEL.NO_SUCH", "1"], "MODEL.NO_SUCH"),
        (["MODEL.DEVICE", "None"], "MODEL.DEVICE: has no value; leave it out for 'cuda'"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER many"),
        (["SOLVER.MAX_ITER"], "has no value"),
    ],
)
def test_a_bad_override_is_named(overrides, words):
    with pytest.raises(CellfeatError, match=words):
        load_config(YAMLS[0], overrides)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("MODEL:\n  WEIGTHS: x\n", "MODEL.WEIGTHS"),
        ("SOLVER:\n  MAX_ITER: [1]\n", "MAX_ITER"),
        ("MODEL: {", "not YAML"),
        ("MODEL:\n  KEYPOINT_ON: True\n", "MODEL.KEYPOINT_ON"),
        ("_BASE_: nowhere.yaml\n", "nowhere.yaml: no such config file"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(CellfeatError, match=words) as error:
        load_config(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CellfeatError, match=r"none\.yaml: no such config file"):
        load_config(tmp_path / "none.yaml")


def test_what_detectron2_dumps_for_other_architectures_is_passed_over(tmp_path):
    path = tmp_path / "dumped.yaml"
    path.write_text("MODEL:\n  KEYPOINT_ON: False\n  RETINANET:\n    NUM_CONVS: 4\n  MASK_ON: True\n")
    assert load_config(path).MODEL.MASK_ON


def test_a_dumped_config_reads_back(tmp_path):
    cfg = load_config(config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml")
    path = tmp_path / "config.yaml"
    path.write_text(cfg.dump())
    assert flatten(load_config(path)) == flatten(cfg)


def test_portable_leaves_out_paths_only():
    one = load_config(YAMLS[0], ["OUTPUT_DIR", "here", "MODEL.WEIGHTS", "w.pth"])
    assert portable(one) == portable(load_config(YAMLS[0], ["OUTPUT_DIR", "there"]))
    assert portable(one) != portable(load_config(YAMLS[0], ["SOLVER.BASE_LR", "0.5"]))


def test_a_config_is_found_by_path_or_by_its_bare_name(tmp_path, monkeypatch):
    name = "wbc_mask_rcnn_R_50_FPN.yaml"
    assert find_config(name) == config_dir() / name
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("VERSION: 2\n")
    assert find_config(name) == Path(name)
    with pytest.raises(CellfeatError, match=f"mine/{name}: no such config file"):  # not the one of that name elsewhere
        find_config(f"mine/{name}")
    with pytest.raises(CellfeatError, match=f"R_5O_FPN.yaml: no such config file; did you mean {name}"):
        find_config(name.replace("R_50", "R_5O"))


@pytest.mark.parametrize("text", ["(" * 5000 + ")" * 5000, "-" * 50000 + "1", "1+" * 50000 + "1", "1" * 5000], ids=len)
def test_values_beyond_measure_are_one_short_line(tmp_path, text):
    (tmp_path / "deep.yaml").write_text(f"SEED: '{text}'\n")
    for path, overrides in ((tmp_path / "deep.yaml", []), (YAMLS[0], ["SEED", text])):
        with pytest.raises(CellfeatError) as error:
            load_config(path, overrides)
        assert len(str(error.value)) < 700
