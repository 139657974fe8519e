"""A project's own classes travel in the provenance of a store."""

import pytest
from store_helpers import image, write

from cellfeat.errors import CellfeatError
from cellfeat.store import Store
from cellfeat.store.copying import merge, subset

BANDS = {"neutrophil": "", "neutrophil_band": "neutrophil"}


def store(path, number, classes):
    return Store(write(path, [image(number)], {"made_by": "a test"} | ({"classes": classes} if classes else {})))


def test_parts_and_merged_stores_keep_the_classes(tmp_path):
    one, other = store(tmp_path / "one", 0, BANDS), store(tmp_path / "other", 1, {"hairy cell": ""})
    assert one.classes.own == BANDS
    assert store(tmp_path / "plain", 0, {}).classes.own == {}
    merged = merge([one, other], tmp_path / "merged")
    assert merged.classes.own == BANDS | {"hairy cell": ""}
    assert subset(merged, tmp_path / "part", domain="north").classes.own == merged.classes.own


def test_classes_that_contradict_each_other(tmp_path):
    one = store(tmp_path / "one", 0, BANDS)
    other = store(tmp_path / "other", 1, {"neutrophil_band": "granulocyte", "granulocyte": ""})
    with pytest.raises(CellfeatError, match=r"'neutrophil_band' is a kind of 'neutrophil' in .*one and of 'granuloc"):
        merge([one, other], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("classes", ["neutrophil", {"a": 1}, {"a": "b"}, {"a": "b", "b": "a"}])
def test_forged_classes_are_one_line(tmp_path, classes):
    with pytest.raises(CellfeatError, match=r"classes|parent|ancestor") as error:
        store(tmp_path / "store", 0, classes).classes  # noqa: B018
    assert "\n" not in str(error.value)
