"""Every published number beside the line that prints it."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from cellfeat.evaluation.published import load_published, published_beside_ours

# Tables 1 and 2 of the AE-CFE paper as printed; "-" where nothing is. Table 2 repeats the column AE-CFE of Table 1.
TABLE_1 = """
Trained on  Tested on   resnet    rcnn      ae         aae       aecfe
Matek-19    Matek-19    62.5±1.8  60.5±0.8  86.0±0.04  87.5±0.8  83.7±0.5
Matek-19    INT-20      0         0         46.8±0.2   31.4±0.3  48.4±0.2
Matek-19    Acevedo-20  0         0         20.1±0.1   18.6±0.4  21.9±0.4
INT-20      Matek-19    0         0         47.2±3.4   63.9±0.2  73.2±0.1
INT-20      INT-20      45.2±1.1  46.0±0.4  69.1±0.4   66.8±0.4  65.6±0.5
INT-20      Acevedo-20  0         0         4.6±0.6    17.7±0.7  31.8±0.4
Acevedo-20  Matek-19    0         0         39.5±1.4   39.4±0.6  45.1±0.5
Acevedo-20  INT-20      0         0         9.7±0.3    17.7±0.7  21.0±0.5
Acevedo-20  Acevedo-20  37.1±0.8  35.9±1.1  67.2±0.7   64.3±0.1  65.2±0.5
"""
TABLE_2 = """
Trained on  Tested on   resnext   matek
Matek-19    Matek-19    -         96.1
Matek-19    INT-20      -         29.5
Matek-19    Acevedo-20  -         8.1
INT-20      Matek-19    49.0±6.3  -
INT-20      INT-20      88.7±1.5  -
INT-20      Acevedo-20  16.9±1.6  -
Acevedo-20  Matek-19    7.3±3.1   -
Acevedo-20  INT-20      8.1±1.4   -
Acevedo-20  Acevedo-20  85.7±2.4  -
"""


def printed(table: str) -> dict[tuple[str, str, str], str]:
    head, *lines = (line.split() for line in table.strip().splitlines())
    names = {"matek": "Matek et al."}
    return {
        (names.get(method, method), line[0], line[1]): value
        for line in lines
        for method, value in zip(head[4:], line[2:])
        if value != "-"
    }


@pytest.mark.parametrize(("title", "table"), [("Table 1", TABLE_1), ("Table 2", TABLE_2)])
def test_the_tables_of_the_paper_digit_by_digit(title, table):
    ours = load_published()
    ours = ours[ours["table"] == title].set_index(["method", "train", "test"])
    expected = printed(table)
    assert set(ours.index) == set(expected)
    for place, text in expected.items():
        value, _, sd = text.partition("±")
        assert ours.loc[place, "value"] == pytest.approx(float(value) / 100, abs=1e-9), place
        if sd:
            assert ours.loc[place, "sd"] == pytest.approx(float(sd) / 100, abs=1e-9), place
        else:
            assert math.isnan(ours.loc[place, "sd"]), place


def test_the_value_that_is_printed_twice_has_a_note():
    table = load_published()
    doubled = table[(table["value"] == 0.177) & (table["sd"] == 0.007)]
    assert doubled[["method", "train", "test"]].to_numpy().tolist() == [
        ["aae", "INT-20", "Acevedo-20"],
        ["aae", "Acevedo-20", "INT-20"],
    ]
    assert set(doubled["note"]) == {"printed for both INT-20 → Acevedo-20 and Acevedo-20 → INT-20"}


def test_the_numbers_of_the_detector_and_of_the_datasets():
    # "Analysing a pool of 77,363 images coming from three datasets, 65,693 cells were successfully detected (85%)."
    # "The Mask R-CNN was trained for 26 epoches reaching a mAP of 0.89."
    detection = load_published("detection").set_index("metric")["value"]
    assert detection.to_dict() == {"images": 77363, "cells": 65693, "detection_rate": 0.85, "detector_map": 0.89}
    # "around 42,000 images" (INT-20); the challenge article: "a total of 17,092 images", "18,365 ... images".
    domains = load_published("domains").set_index("domain")
    assert domains["images"].to_dict() == {"Matek-19": 18365, "INT-20": 42000, "Acevedo-20": 17092}
    assert domains["approximate"].to_dict() == {"Matek-19": "no", "INT-20": "yes", "Acevedo-20": "no"}


def test_the_numbers_of_the_other_sources():
    elsewhere = load_published("elsewhere")
    assert elsewhere["reference"].str.startswith("https://").all()
    assert elsewhere["where"].isin(["within", "across"]).all()
    found = {(row.method, row.where, row.metric, row.data): row.value for row in elsewhere.itertuples()}
    haho = "Acevedo-20 and Matek-19 → "
    assert found["mdd", "across", "accuracy", haho + "WBC1"] == 0.7436  # "micro f1 0.7436 0.6778"
    assert found["mdd", "across", "accuracy", haho + "WBC2"] == 0.6778
    assert found["mdd", "across", "macro_f1", haho + "WBC1"] == 0.6635  # "macro f1 0.6635 0.6513"
    assert found["mdd", "across", "macro_f1", haho + "WBC2"] == 0.6513
    leukopy = "11 classes of Barcelona, Munich and Raabin"
    assert found["finetune:vgg19", "within", "accuracy", leukopy] == 0.94  # "around 94% on test data"
    assert found["finetune:vit_b_16", "within", "accuracy", leukopy] == 0.92  # "92% on validation and test data"
    assert found["logistic", "within", "accuracy", leukopy] == 0.65  # "an accuracy of about 65–70%"
    assert elsewhere.set_index("method")["up_to"].dropna().to_dict() == {"logistic": 0.7}
    tecom = "Barcelona, Munich and Raabin → Tecom"
    assert found["finetune:vgg19", "across", "accuracy", tecom] == 0.08  # "global accuracy around 8 %"


def scored(*pairs: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        [(a, b, ";".join(f"class{k}" for k in range(n))) for a, b, n in pairs], columns=["train", "test", "classes"]
    )


def test_equal_data_are_not_marked():
    beside = published_beside_ours(scored(("Matek-19", "Matek-19", 13)), {"Matek-19": 18365})
    assert set(beside["method"]) == {"aecfe", "ae", "aae", "rcnn", "resnet", "Matek et al."}
    assert set(beside["differs"]) == {""}


def test_a_subsample_of_the_same_site_is_marked():
    ours = scored(("pbc-barcelona", "aml-munich", 2), ("elsewhere", "aml-munich", 2))
    same = {"pbc-barcelona": "Acevedo-20", "aml-munich": "Matek-19"}
    beside = published_beside_ours(ours, {"pbc-barcelona": 1500, "aml-munich": 18365}, same)
    assert beside.set_index("method")["value"].to_dict() == {
        **{"aecfe": 0.451, "ae": 0.395, "aae": 0.394, "rcnn": 0, "resnet": 0, "resnext": 0.073},
    }
    assert set(beside["train"]) == {"Acevedo-20"}
    assert beside["differs"][0] == "1,500 of 17,092 images of Acevedo-20; 2 of 13 classes"


def test_a_size_that_is_published_roughly_is_never_equal():
    beside = published_beside_ours(scored(("INT-20", "INT-20", 13)), {"INT-20": 42000})
    assert set(beside["differs"]) == {"42,000 of around 42,000 images of INT-20"}


def test_other_domains_match_nothing():
    assert published_beside_ours(scored(("a", "b", 3)), {}).empty
