from __future__ import annotations

import pandas as pd

from cellfeat.evaluation.published import load_published, published_beside_ours


def scored(*pairs: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        [(a, b, ";".join(f"class{k}" for k in range(n))) for a, b, n in pairs], columns=["train", "test", "classes"]
    )


def test_published_numbers_are_those_of_the_paper():
    table = load_published()
    ours = table[table["method"] == "aecfe"].pivot(index="train", columns="test", values="value")
    names = ["Matek-19", "INT-20", "Acevedo-20"]
    assert ours.loc[names, names].to_numpy().tolist() == [
        [0.837, 0.484, 0.219],
        [0.732, 0.656, 0.318],
        [0.451, 0.210, 0.652],
    ]
    detection = load_published("detection").set_index("metric")["value"]
    assert detection.to_dict() == {"detection_rate": 0.85, "detector_map": 0.89}


def test_equal_data_are_not_marked():
    beside = published_beside_ours(scored(("Matek-19", "Matek-19", 13)), {"Matek-19": 18365})
    assert beside.set_index("method")["differs"].to_dict() == {"aecfe": "", "rcnn": "", "resnext": ""}


def test_a_subsample_of_the_same_site_is_marked():
    ours = scored(("pbc-barcelona", "aml-munich", 2), ("elsewhere", "aml-munich", 2))
    same = {"pbc-barcelona": "Acevedo-20", "aml-munich": "Matek-19"}
    beside = published_beside_ours(ours, {"pbc-barcelona": 1500, "aml-munich": 18365}, same)
    assert beside[["method", "value"]].to_numpy().tolist() == [["aecfe", 0.451], ["resnext", 0.073]]
    assert set(beside["train"]) == {"Acevedo-20"}
    assert beside["differs"][0] == "1,500 of 17,092 images of Acevedo-20; 2 of 13 classes"


def test_results_on_other_data_say_where_they_come_from():
    elsewhere = load_published("elsewhere")
    assert set(elsewhere["method"]) == {"mdd", "psd", "finetune"}
    assert elsewhere["reference"].str.startswith("https://").all()
    assert elsewhere["where"].isin(["within", "across"]).all()
    assert elsewhere["value"].between(0, 1).all()


def test_other_domains_match_nothing():
    assert published_beside_ours(scored(("a", "b", 3)), {}).empty
