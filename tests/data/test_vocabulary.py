import csv
import itertools
import os
from pathlib import Path

import pytest

from cellfeat.data.class_tree import class_tree
from cellfeat.data.vocabulary import CLASSES, classes_of, load_vocabulary, vocabulary_names
from cellfeat.errors import CellfeatError


def test_thirteen_classes_in_alphabetical_order():
    assert len(CLASSES) == 13
    assert list(CLASSES) == sorted(CLASSES)
    assert {"blast", "lymphocyte_atypical", "smudge_cell"} <= set(CLASSES)


def test_harmonised_is_the_identity():
    assert load_vocabulary("harmonised").harmonise(CLASSES, "here") == list(CLASSES)


@pytest.mark.parametrize(
    ("name", "codes"),
    [("matek-19", 15), ("int-20", 18), ("acevedo-20", 21), ("apl-hopkins", 33), ("marrow-munich", 21)],
)
def test_size_of_the_published_vocabularies(name, codes):
    assert len(load_vocabulary(name).meaning) == codes


def test_drops_and_unlabelled_codes_say_why():
    for name in vocabulary_names():
        vocabulary = load_vocabulary(name)
        for code, meaning in vocabulary.meaning.items():
            assert meaning in classes_of(name) or vocabulary.notes[code], (name, code)


def test_published_drops():
    assert load_vocabulary("matek-19").harmonise(["PMB", "MOB", "MYO"], "here") == [None, "monocyte", "blast"]
    assert load_vocabulary("acevedo-20").harmonise(["IG", "NEUTROPHIL", "platelet"], "here") == [None, None, None]
    assert load_vocabulary("acevedo-20").harmonise(["neutrophil", "SNE"], "here") == ["", "neutrophil_segmented"]
    assert load_vocabulary("int-20").harmonise(["21-Haarzelle", "01-NORMO"], "here") == [None, "erythroblast"]


def test_neutrophils_of_unknown_stage_are_a_class_of_their_own():
    codes = ["neutrophil", "eosinophil, eosinophil", "neutrophil, eosinophil", "", "3", "1"]
    named = ["neutrophil", "eosinophil", "", "", "monocyte", "neutrophil"]
    assert load_vocabulary("five-part").harmonise(codes, "here") == named
    tree = classes_of("five-part")
    shared = tree.shared(["neutrophil", "monocyte"], ["neutrophil_band", "neutrophil_segmented", "monocyte"])
    assert shared["neutrophil_band"] == shared["neutrophil_segmented"] == shared["neutrophil"] == "neutrophil"
    own = class_tree({"neutrophil": "granulocyte", "granulocyte": ""}, "own")
    assert classes_of("five-part", own).parent["neutrophil"] == "granulocyte"
    assert classes_of("matek-19", own) is own
    with pytest.raises(CellfeatError, match="'neutrophil_band' is a kind of 'neutrophil' in vocabulary five-part"):
        classes_of("five-part", class_tree({"neutrophil_band": "band", "band": ""}, "own"))


@pytest.mark.parametrize("between", [",", ", ", ";", " / ", "&", " and "])
def test_any_pair_of_cells_follows_a_rule(between):
    vocabulary = load_vocabulary("five-part")
    names = ["neutrophil", "eosinophil", "Lymphocyte", "MONOCYTE", "basophil"]
    for one, other in itertools.product(names, names):
        same = one.lower() if one == other else ""
        code = f"{one}{between}{other}"
        assert vocabulary.harmonise([code], "here") == [same], code
    assert vocabulary.translate(["monocyte, monocyte, monocyte", "monocyte, what"]) == ["monocyte", ""]
    assert vocabulary.unknown(["monocyte, what", "monocyte, eosinophil", ""]) == ["monocyte, what"]
    assert load_vocabulary("acevedo-20").translate(["PLATELET, IG", "PLATELET, LY"]) == [None, ""]


def test_case_and_spelling_do_not_count_where_they_are_clear():
    assert load_vocabulary("matek-19").harmonise(["mon", " Bas "], "here") == ["monocyte", "basophil"]
    assert load_vocabulary("harmonised").harmonise(["Neutrophil Band", "smudge-cell"], "here") == [
        "neutrophil_band",
        "smudge_cell",
    ]
    assert load_vocabulary("acevedo-20").unknown(["Neutrophil"]) == ["Neutrophil"]  # NEUTROPHIL is not neutrophil


def test_unknown_codes_are_all_listed():
    with pytest.raises(CellfeatError, match=r"labels.csv: unknown codes WAT, WIT; vocabulary matek-19 holds BAS, "):
        load_vocabulary("matek-19").harmonise(["MON", "WIT", "WAT", "WAT"], "labels.csv")
    assert load_vocabulary("matek-19").translate(["MON", "WIT"]) == ["monocyte", ""]


def test_unknown_vocabulary():
    with pytest.raises(CellfeatError, match=r"'acevedo'.*acevedo-20"):
        load_vocabulary("acevedo")


def test_own_vocabulary(tmp_path):
    path = tmp_path / "codes.csv"
    path.write_text("# ours\ncode,class,note\nSeg 1,neutrophil_segmented,\nX,drop,empty glass\n")
    assert load_vocabulary(path).harmonise(["Seg1", "X"], "here") == ["neutrophil_segmented", None]
    path.write_text("code,class,note\nX,neutrophile,\n")
    with pytest.raises(CellfeatError, match="'X' has class 'neutrophile'"):
        load_vocabulary(path)
    path.write_text("code,class\nX,drop\nX,blast\n")
    with pytest.raises(CellfeatError, match="written down twice"):
        load_vocabulary(path)
    path.write_text("X,drop\n")
    with pytest.raises(CellfeatError, match="must name the columns"):
        load_vocabulary(path)
    path.write_bytes("code;class;note\nX;drop;größer\n".encode("cp1252"))
    with pytest.raises(CellfeatError, match=r"codes\.csv: not UTF-8"):
        load_vocabulary(path)
    with pytest.raises(CellfeatError, match="no such vocabulary file"):
        load_vocabulary(tmp_path / "absent.csv")


CLASS_MAP = Path(os.environ.get("CELLFEAT_DATASETS", "datasets")) / "class_map.csv"


@pytest.mark.skipif(not CLASS_MAP.is_file(), reason="CELLFEAT_DATASETS names no folder with class_map.csv")
def test_agrees_with_the_class_map_of_the_subsets():
    vocabulary = {"pbc-barcelona": "acevedo-20", "aml-munich": "matek-19"}
    with open(CLASS_MAP, newline="") as handle:
        for row in csv.DictReader(handle):
            name = vocabulary.get(row["dataset"], row["dataset"])
            assert load_vocabulary(name).harmonise([row["class"]], "map") == [row["harmonised_class"]]
