from __future__ import annotations

import pytest
import yaml

from cellfeat.data.cards import ModelCard, dataset_card, datasets_of, write_model_card
from cellfeat.data.catalogue import open_dataset

CARD = ModelCard(
    *("A detector", "Finds cells.", "object-detection", ["acevedo-20", "my-folder"]),
    settings={"steps": (1, 2), "weights": None},
    facts={"cells": 12},
    metrics=[("site-b", "bbox_AP50", 0.91234), ("site-b", "segm_AP", 0.5)],
    limits=["Only discs."],
)


def parts(text):
    """Front matter and body of a card."""
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_a_model_card_has_data_licences_metrics_and_limits(tmp_path):
    path = write_model_card(tmp_path, CARD)
    front, body = parts(path.read_text())
    assert (front["license"], front["pipeline_tag"], front["library_name"]) == ("other", "object-detection", "cellfeat")
    [result] = front["model-index"][0]["results"]
    assert [metric["value"] for metric in result["metrics"]] == [0.9123, 0.5]
    spec = open_dataset("acevedo-20").spec
    for text in (
        spec.licence,
        spec.citation,
        "my-folder | not stated",
        "cells: 12",
        "Only discs.",
        "not for diagnosis",
    ):
        assert text in body
    assert yaml.safe_load(body.split("```yaml\n")[1].split("```")[0]) == {"steps": [1, 2], "weights": None}
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard.load(path).data
    assert (data.library_name, data.eval_results[0].metric_type) == ("cellfeat", "bbox_AP50")


def test_a_licence_that_all_data_share_is_the_models(tmp_path):
    card = ModelCard("t", "s", "image-classification", ["acevedo-20", "acevedo-20@train"], {})
    assert parts(write_model_card(tmp_path, card).read_text())[0]["license"] == "cc-by-4.0"


def test_a_dataset_card(data_root):
    front, body = parts(dataset_card(open_dataset(data_root[0])))
    assert front["size_categories"] == ["n<1K"]
    assert front["task_categories"] == ["image-classification", "object-detection"]
    assert "| images | 13 |" in body
    hub = pytest.importorskip("huggingface_hub")
    assert hub.DatasetCard(dataset_card(open_dataset(data_root[0]))).data.pretty_name == front["pretty_name"]


def test_datasets_of_merged_parts_of_stores():
    first = {"provenance": {"datasets": ["a", "b"]}, "subset_of": "x"}
    assert datasets_of({"merged": [{"provenance": first}, {"provenance": {"datasets": ["b", "c"]}}]}) == ["a", "b", "c"]
    assert datasets_of({"made_by": "hand"}) == []
