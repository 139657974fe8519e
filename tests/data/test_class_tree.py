import pytest

from cellfeat.data.class_tree import CLASSES, THE_CLASSES, class_tree, joined_classes, load_classes
from cellfeat.errors import CellfeatError

TABLE = """class,parent,note
neutrophil,,
neutrophil_band,neutrophil,
neutrophil_segmented,neutrophil,
Plasmazelle,,free names
hairy cell,lymphocyte_atypical,
lymphocyte_atypical,lymphoid,
lymphocyte,lymphoid,
lymphoid,,
"""


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "classes.csv").write_text(TABLE, encoding="utf-8")
    return load_classes(tmp_path / "classes.csv")


def test_the_thirteen_are_always_there(tree):
    assert set(CLASSES) < set(tree)
    assert "Plasmazelle" in tree
    assert "Plasmazelle" not in THE_CLASSES
    assert tree.with_ancestors("hairy cell") == ["hairy cell", "lymphocyte_atypical", "lymphoid"]
    assert THE_CLASSES.with_ancestors("neutrophil_band") == ["neutrophil_band"]


def test_names_in_another_spelling_are_one_class(tmp_path):
    (tmp_path / "classes.csv").write_text("class,parent\nMonocyte,Mononuclear Cell\nmononuclear_cell,\n")
    assert load_classes(tmp_path / "classes.csv").own == {"monocyte": "mononuclear_cell", "mononuclear_cell": ""}


BAND, SEGMENTED, NEUTROPHIL = "neutrophil_band", "neutrophil_segmented", "neutrophil"


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ([BAND, "blast"], [BAND, "blast"], {BAND: BAND, "blast": "blast"}),
        ([BAND, SEGMENTED], [NEUTROPHIL], {BAND: NEUTROPHIL, SEGMENTED: NEUTROPHIL, NEUTROPHIL: NEUTROPHIL}),
        ([BAND], [SEGMENTED], {BAND: NEUTROPHIL, SEGMENTED: NEUTROPHIL}),
        ([BAND, SEGMENTED, NEUTROPHIL], [BAND, SEGMENTED], {BAND: BAND, SEGMENTED: SEGMENTED, NEUTROPHIL: ""}),
        ([BAND, SEGMENTED], [BAND, ""], {BAND: BAND, SEGMENTED: ""}),
        (["hairy cell", "lymphocyte"], ["lymphoid"], {"hairy cell": "lymphoid", "lymphocyte": "lymphoid"}),
        (["Plasmazelle"], ["blast"], {"Plasmazelle": "", "blast": ""}),
        (["of no tree"], ["of no tree"], {"of no tree": "of no tree"}),
    ],
)
def test_sites_are_compared_at_the_finest_level_that_both_have(tree, one, other, shared):
    found = tree.shared(one, other)
    assert shared.items() <= found.items()
    assert tree.shared(other, one) == found
    kept = set(found.values()) - {""}
    assert not any(set(tree.with_ancestors(name)[1:]) & kept for name in kept)


def test_sites_that_share_a_tree(tree):
    assert THE_CLASSES.own == {}
    assert tree.own["lymphocyte"] == "lymphoid"
    assert class_tree(tree.own, "again") == tree
    flat = class_tree({"hairy cell": ""}, "flat")
    assert joined_classes({"a": flat, "b": tree, "c": THE_CLASSES}).own == joined_classes({"b": tree, "a": flat}).own
    other = class_tree({"hairy cell": "blast"}, "other")
    with pytest.raises(CellfeatError, match="'hairy cell' is a kind of 'lymphocyte_atypical' in a and of 'blast' in b"):
        joined_classes({"a": tree, "b": other})
    with pytest.raises(CellfeatError, match="the classes of b, a: class 'lymphoid' is its own ancestor"):
        joined_classes({"b": class_tree({"lymphoid": "hairy cell", "hairy cell": ""}, "b"), "a": tree})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,parent\na,b\n", "the parent 'b' of 'a' is no class"),
        ("class,parent\na,b\nb,a\n", "is its own ancestor"),
        ("class,parent\na,a\n", "'a' is its own ancestor"),
        ("class\na\na\n", "line 3: class 'a' occurs twice"),
        ("class\nhairy cell\nHairy_Cell\n", "line 3: class 'hairy cell' occurs twice"),
        ("class\nDrop\n", "'Drop' cannot be a class"),
        ("class\ndrop\n", "'drop' cannot be a class"),
        ("class,parent\n,blast\n", "'' cannot be a class"),
        ("name\na\n", "no column 'class'"),
    ],
)
def test_faulty_classes(tmp_path, text, message):
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(CellfeatError, match=message):
        load_classes(tmp_path / "classes.csv")
