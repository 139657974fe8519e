from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cellfeat.data.split import divided_groups, folds, patients_known, read_split, stratified_split, units_of
from cellfeat.errors import CellfeatError


def cells(domain: str, counts: dict[str, int], per_image: int = 1) -> pd.DataFrame:
    rows = [
        (f"{domain}/{label}{k}#{c}", f"{domain}/{label}{k}", domain, label)
        for label, n in counts.items()
        for k in range(n)
        for c in range(per_image)
    ]
    return pd.DataFrame(rows, columns=["cell_id", "image_id", "domain", "label"])


def test_every_class_of_every_domain_gives_its_share():
    table = pd.concat([cells("a", {"x": 50, "y": 10}), cells("b", {"x": 20, "": 30})], ignore_index=True)
    part = stratified_split(table, test_fraction=0.2)
    assert list(part.index) == list(table["cell_id"])
    tested = table[(part == "test").to_numpy()].groupby(["domain", "label"]).size().to_dict()
    assert tested == {("a", "x"): 10, ("a", "y"): 2, ("b", "x"): 4, ("b", ""): 6}


def test_split_does_not_depend_on_row_order_or_other_domains():
    a, b = cells("a", {"x": 30, "y": 30}), cells("b", {"x": 30})
    alone = stratified_split(a)
    together = stratified_split(pd.concat([b, a.sample(frac=1, random_state=3)], ignore_index=True))
    pd.testing.assert_series_equal(together[alone.index], alone)
    assert (stratified_split(a, seed=1) != alone).any()


def test_small_classes():
    part = stratified_split(cells("a", {"one": 1, "two": 2}))
    assert part["a/one0#0"] == "train"
    assert sorted(part[["a/two0#0", "a/two1#0"]]) == ["test", "train"]


def test_cells_of_an_image_stay_together():
    table = cells("a", {"x": 20}, per_image=3)
    table.loc[table.index % 3 > 0, "label"] = ""  # only the first cell of an image carries its label
    part = stratified_split(table).groupby(table["image_id"].to_numpy()).nunique()
    assert (part == 1).all()


def patients(images: int = 400, groups: int = 40, seed: int = 0) -> pd.DataFrame:
    """Two domains with the same names of patients, each patient with a few classes."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, images)
    table = pd.DataFrame({"cell_id": [f"c{k}" for k in range(images)], "domain": rng.choice(["a", "b"], images)})
    return table.assign(label=[f"class{(g + rng.integers(0, 3)) % 5}" for g in group], group=[f"p{g}" for g in group])


def test_a_group_is_on_one_side():
    table = patients()
    part = stratified_split(table)
    assert divided_groups(table, part) == []
    assert len(divided_groups(table, stratified_split(table.drop(columns="group")))) > 40
    tested = (part == "test").groupby([table["domain"].to_numpy(), table["label"].to_numpy()]).mean()
    assert tested.between(0.1, 0.3).all()
    shuffled = stratified_split(table.sample(frac=1, random_state=1))
    pd.testing.assert_series_equal(shuffled[part.index], part)
    alone = stratified_split(table[table["domain"] == "b"])
    pd.testing.assert_series_equal(part[alone.index], alone)


def test_every_class_is_learned_from_and_tested_on_where_two_groups_hold_it():
    rows = [("p1", "x")] * 9 + [("p1", "y")] * 2 + [("p2", "x"), ("p2", "y")] + [("p3", "x")] * 9 + [("p3", "z")]
    table = pd.DataFrame(rows, columns=["group", "label"]).assign(domain="a")
    table["cell_id"] = [f"c{k}" for k in table.index]
    for seed in range(10):
        part = stratified_split(table, seed=seed)
        sides = part.groupby(table["label"].to_numpy()).nunique()
        assert sides.to_dict() == {"x": 2, "y": 2, "z": 1}
        assert part.iloc[-1] == "train"  # z has one patient


def test_images_without_a_group_are_units_of_their_own():
    table = cells("a", {"x": 20}, per_image=2).assign(group="")
    pd.testing.assert_series_equal(stratified_split(table), stratified_split(table.drop(columns="group")))
    table.loc[:9, "group"] = "p"
    assert units_of(table).nunique() == 1 + 15


def test_folds_divide_no_unit():
    unit = np.repeat([f"p{k}" for k in range(12)], 5)
    strata = np.array(["x", "y"])[np.arange(60) % 2]
    made = folds(strata, unit, 4)
    assert sorted(np.concatenate([tested for _, tested in made])) == list(range(60))
    assert all(not set(unit[learned]) & set(unit[tested]) for learned, tested in made)
    alone = folds(strata, np.arange(60), 4)
    assert [len(tested) for _, tested in alone] == [15] * 4


def test_what_is_known_of_patients():
    table = patients(20, 3).sort_values("domain")
    table.loc[table["domain"] == "b", "group"] = ""
    known = patients_known(table)
    assert known.loc["b", ["known", "groups"]].tolist() == [0, 0]
    assert known.loc["a"].tolist() == [(table["domain"] == "a").sum()] * 2 + [3]
    assert patients_known(table.drop(columns="group"))["known"].tolist() == [0, 0]


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_fraction_outside_is_refused(fraction):
    with pytest.raises(CellfeatError, match="test_fraction"):
        stratified_split(cells("a", {"x": 5}), test_fraction=fraction)


def test_cell_twice_is_refused():
    with pytest.raises(CellfeatError, match="occurs twice"):
        stratified_split(pd.concat([cells("a", {"x": 2})] * 2))


def test_split_survives_the_file(tmp_path):
    part = stratified_split(cells("NA", {"x": 5}))
    part.rename_axis("cell_id").reset_index().to_csv(tmp_path / "split.csv", index=False)
    assert read_split(tmp_path / "split.csv").to_dict() == part.to_dict()
    text = (tmp_path / "split.csv").read_text().replace(",", ";")
    (tmp_path / "split.csv").write_text(text, encoding="utf-16")  # as a spreadsheet may save it
    assert read_split(tmp_path / "split.csv").to_dict() == part.to_dict()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cell_id,fold\na,0\n", "no column 'part'; it has cell_id, fold"),
        ("cell_id,part\na,validation\n", "'validation' is neither"),
        ("cell_id,part\na,train\na,test\n", "'a' twice"),
        ("", "an empty table"),
    ],
)
def test_bad_split_files_are_refused(tmp_path, text, says):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(CellfeatError, match=says):
        read_split(tmp_path / "split.csv")


def test_missing_split_file_is_named(tmp_path):
    with pytest.raises(CellfeatError, match=r"split\.csv: no such table"):
        read_split(tmp_path / "split.csv")
