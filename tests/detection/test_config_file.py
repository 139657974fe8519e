"""Detector configs that name bases."""

from __future__ import annotations

import os

import pytest
from fvcore.common.config import CfgNode

from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.config_file import read_config_file
from cellfeat.errors import CellfeatError


@pytest.mark.parametrize("path", sorted(config_dir().glob("*.yaml")), ids=lambda path: path.stem)
def test_bases_are_merged_as_detectron2_merges_them(path):
    assert read_config_file(path) == CfgNode.load_yaml_with_base(str(path))


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base.yaml").write_text("MODEL: {MASK_ON: true, FPN: {NORM: GN}}\nSEED: 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("/dev/zero", "no local file that ends in .yaml or .yml"),
        ("/etc/passwd", "no local file that ends in .yaml or .yml"),
        ("https://example.org/a.yaml", "no local file"),
        ("[1]", "no local file"),
        ("none.yaml", "none.yaml: no such config file"),
        ("pipe.yaml", "pipe.yaml: no such config file"),
        ("config.yaml", "more than 10 bases in a row, or a circle"),
        ("list.yaml", "list.yaml: not a detector config"),
        ("base.yaml\nMODEL: {FPN: {1: 2}}", "config.yaml: the key 1 is no text"),
        ("[base.yaml, other.yaml]", "other.yaml: MODEL: has keys of its own here, but a value in its base"),
    ],
)
def test_bases_that_are_none_are_one_line(base, named, words):
    os.mkfifo(base / "pipe.yaml")
    (base / "list.yaml").write_text("- 1")
    (base / "value.yaml").write_text("MODEL: 1")
    (base / "other.yaml").write_text("_BASE_: value.yaml\nMODEL: {A: 1}")
    (base / "config.yaml").write_text(f"_BASE_: {named}\n")
    with pytest.raises(CellfeatError, match=words) as error:
        load_config(base / "config.yaml")
    assert "\n" not in str(error.value)


def test_a_base_elsewhere_is_named_relative_to_the_config(base):
    (base / "sub").mkdir()
    (base / "sub/config.yaml").write_text("_BASE_: ../base.yaml\nSEED: 2\n")
    assert read_config_file(base / "sub/config.yaml") == {"MODEL": {"MASK_ON": True, "FPN": {"NORM": "GN"}}, "SEED": 2}
