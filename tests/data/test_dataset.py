import os
import unicodedata
from collections import Counter

import numpy as np
import pytest
from described import coco_file, describe
from PIL import Image

from cellfeat.data.catalogue import dataset_names, open_dataset
from cellfeat.data.dataset import split_of
from cellfeat.errors import CellfeatError


def test_records(site):
    dataset = open_dataset("site")
    records = dataset.records()
    assert [record.image_id for record in records] == ["site/a.png", "site/b.png", "site/sub/d.png"]
    assert [record.label for record in records] == ["basophil", "monocyte", ""]
    assert all(record.path.is_file() for record in records)
    assert records[0].domain == "site"
    assert records[0].um_per_px == 0.08
    assert dataset.dropped == {"PMB": 1}
    assert "site" in dataset_names()


def test_labels_by_folder(root):
    for code in ("BAS", "PMB", "PMO"):
        (root / "folders" / code).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / "folders" / code / "1.png")
    describe(root / "folders", images=".", labels={"kind": "folder", "vocabulary": "matek-19"})
    dataset = open_dataset("folders")
    assert [record.label for record in dataset.records()] == ["basophil", "promyelocyte"]
    assert dataset.dropped == {"PMB": 1}


def test_splits_divide_the_images(root):
    (root / "many").mkdir()
    for number in range(40):
        Image.new("L", (8, 8)).save(root / "many" / f"{number}.png")
    describe(root / "many", images=".", labels={"kind": "none"})
    parts = {name: {r.image_id for r in open_dataset(f"many{name}").records()} for name in ("", "@train", "@val")}
    assert parts["@train"] | parts["@val"] == parts[""]
    assert not parts["@train"] & parts["@val"]
    assert parts["@val"] == {image_id for image_id in parts[""] if split_of(image_id) == "val"}
    shares = Counter(split_of(f"many/{number}.png") for number in range(5000))
    assert 900 < shares["val"] < 1100
    with pytest.raises(CellfeatError, match="no split 'test'; use many@train"):
        open_dataset("many@test")


def many(root, **keys):
    """40 images of 10 patients, two slides each."""
    for number in range(40):
        path = root / "many" / f"P{number % 10}" / f"{number % 2}-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path)
    rows = [f"P{n % 10}/{n % 2}-{n}.png,patient {n % 10},s{n % 20},\n" for n in range(40)]
    (root / "many" / "table.csv").write_text("file,patient,slide,stain\n" + "".join(rows))
    describe(root / "many", **{"images": ".", "labels": {"kind": "none"}, **keys})
    return open_dataset("many")


@pytest.mark.parametrize(
    ("keys", "group"),
    [
        ({"group": "patient", "table": "table.csv"}, "patient 3"),
        ({"group": {"folder": 1}}, "P3"),
        ({"group": {"pattern": r"P\d+"}}, "P3"),
        ({"group": {"pattern": r"P(\d+)/"}}, "3"),
    ],
)
def test_groups_stay_on_one_side(root, keys, group):
    dataset = many(root, **keys)
    records = {record.image_id: record.group for record in dataset.records()}
    assert records["many/P3/1-13.png"] == group
    assert len(set(records.values())) == 10
    val = {record.image_id for record in open_dataset("many@val").records()}
    train = {record.image_id for record in open_dataset("many@train").records()}
    assert val | train == set(records)
    assert not {records[name] for name in val} & {records[name] for name in train}


def test_groups_are_compared_in_one_unicode_form_and_missing_ones_said(root):
    dataset = many(root, group="patient", table="table.csv")
    names = ["Müller", unicodedata.normalize("NFD", "Müller"), "", "7", "7.0"]
    rows = [f"P{n}/{n % 2}-{n}.png,{name}\n" for n, name in enumerate(names)]
    (root / "many" / "table.csv").write_text("file,patient\n" + "".join(rows), encoding="utf-8")
    assert {record.group for record in dataset.records()} == {unicodedata.normalize("NFC", "Müller"), "", "7"}
    assert dataset.left_out["images without a group"] == ["P2/0-2.png"]


def test_metadata_go_with_the_images(root):
    dataset = many(root, table="table.csv", group="patient", metadata=["slide", "stain"])
    record = dataset.records()[0]
    assert record.stored_metadata == {"group": "patient 0", "slide": "s0", "stain": ""}
    assert many(root).records()[0].stored_metadata == {}
    assert many(root).records()[0].identity == ["many/P0/0-0.png", "", 0.08]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"group": "patient"}, "the column 'patient' needs a table: give labels.file or table"),
        ({"group": {"column": "patients"}, "table": "table.csv"}, "no column 'patients'; it has file, patient, slide"),
        ({"group": {"folder": 1, "pattern": "x"}}, "group: .*give one of column, folder and pattern"),
        ({"group": {"pattern": "("}}, "'\\(' is not a regular expression"),
        ({"group": {"pattern": "(?<=P)3"}}, "of RE2, which has no look-around"),
        ({"group": {"folder": 2}}, "folder 2 gives none of its 40 images a group"),
        ({"group": {"pattern": "Q"}}, "pattern 'Q' gives none of its 40 images a group"),
        ({"metadata": ["group"], "table": "table.csv"}, "named by the key group"),
        ({"metadata": ["slide"]}, "the column 'slide' needs a table"),
    ],
)
def test_faulty_groups(root, keys, message):
    with pytest.raises(CellfeatError, match=message):
        many(root, **keys).records()


def test_coco_from_masks(site):
    (site / "masks" / "sub").mkdir(parents=True)
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[5:20, 5:20] = 200
    for name in ("a.png", "sub/c.png", "sub/d.png"):  # c is a deliberate drop, b has no mask
        Image.fromarray(mask).save(site / "masks" / name)
    describe(site, masks={"folder": "masks"})
    coco = open_dataset("site").coco()
    assert [image["image_id"] for image in coco["images"]] == ["site/a.png", "site/sub/d.png"]
    assert coco["images"][0]["file_name"] == str((site / "images" / "a.png").absolute())
    assert [a["bbox"] for a in coco["annotations"]] == [[5, 5, 15, 15]] * 2
    describe(site, masks={"folder": "masks", "name": "{stem}_m.png"})
    with pytest.raises(CellfeatError, match=r"first looked for .*a_m.png; correct masks.folder"):
        open_dataset("site").coco()


def test_a_summary_counts_masks_without_reading_them(site):
    (site / "masks").mkdir()
    (site / "masks" / "a.png").write_text("no picture")
    describe(site, masks={"folder": "masks"})
    said = "site: 3 images, 1 annotated; left out: 1 images of code PMB, dropped by the vocabulary"
    assert str(open_dataset("site").summary(read_masks=False)) == said
    with pytest.raises(CellfeatError, match="1 masks cannot be used"):
        open_dataset("site").summary()


def test_masks_of_images_that_exif_turns(site):
    (site / "masks").mkdir()
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[5:20, 5:20] = 200
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (40, 30)).save(site / "images" / "b.png", exif=exif)
    for name in ("a.png", "b.png"):
        Image.fromarray(mask).save(site / "masks" / name)
    describe(site, masks={"folder": "masks"})
    assert [image["image_id"] for image in open_dataset("site").coco()["images"]] == ["site/a.png"]
    assert "1 annotated images that EXIF turns" in str(open_dataset("site").summary())
    describe(site, masks={"folder": "masks"}, orientation="stored")
    assert len(open_dataset("site").coco()["images"]) == 2


def test_names_that_are_no_unicode_stop_training_not_dumping(site, caplog):
    coco_file(site)
    describe(site, coco="coco.json")
    os.rename(site / "images" / "b.png", os.fsencode(site) + b"/images/gr\xf6\xdfe.png")
    assert [record.image_id for record in open_dataset("site").records()] == ["site/a.png", "site/sub/d.png"]
    assert "1 names are not valid Unicode, rename them to UTF-8 (first gr\\xf6\\xdfe.png)" in caplog.text
    with pytest.raises(CellfeatError, match=r"is not valid Unicode \(1 such names\); rename the files to UTF-8"):
        open_dataset("site").coco()


def test_stated_bits_go_with_the_images(site):
    coco_file(site)
    describe(site, coco="coco.json", bits=10)
    dataset = open_dataset("site")
    assert {record.bits for record in dataset.records()} == {10}
    assert dataset.records()[0].identity == ["site/a.png", "basophil", 0.08, {"bits": 10}]
    assert [image["bits"] for image in dataset.coco()["images"]] == [10]


def test_links_within_the_folder_are_followed(site, tmp_path):
    (site / "images").rename(tmp_path / "elsewhere")
    (site / "images").symlink_to(tmp_path / "elsewhere")
    assert len(open_dataset("site").records()) == 3


def test_faulty_label_tables(site):
    faults = {
        "no column 'class'; it has file, kind": "file,kind\na.png,BAS\n",
        "no column 'file'; it has image, class; name .* in labels.file_column": "image,class\na.png,BAS\n",
        "a.png is listed twice": "file,class\na.png,BAS\na.png,BAS\n",
        "a.png is listed twice, in lines 2 and 4": "file;class\na.png;BAS\n;\n./A.png;MOB\n",
        "none of its 2 images is in .*first x.png": "file,class\nx.png,BAS\ny.png,BAS\n",
        "drops every image": "file,class\n"
        + "".join(f"{n},PMB\n" for n in ("a.png", "b.png", "sub/c.png", "sub/d.png")),
    }
    for message, text in faults.items():
        (site / "labels.csv").write_text(text)
        with pytest.raises(CellfeatError, match=message):
            open_dataset("site").records()
    (site / "labels.csv").unlink()
    with pytest.raises(CellfeatError, match=r"labels.csv: no such table"):
        open_dataset("site").records()


def test_what_cannot_be_used_is_said_and_fatal_only_where_asked(site, caplog):
    (site / "images" / "sub" / "scan.gif").write_bytes(b"GIF89a")
    (site / "labels.csv").write_text("FILE,Class\na,bas\nimages/b.png,WAT\ngone.png,BAS\nsub\\\\c.png,mob\n")
    dataset = open_dataset("site")
    assert [record.label for record in dataset.records()] == ["basophil", "", "monocyte", ""]
    left_out = {
        "pictures of a kind that is not read (convert them to PNG or TIFF)": ["sub/scan.gif"],
        "rows of labels.csv without a picture": ["gone.png"],
        "images that labels.csv does not list": ["sub/d.png"],
        "images unlabelled, their code is not in vocabulary matek-19": ["b.png with 'WAT'"],
    }
    assert dataset.left_out == left_out
    assert len(caplog.records) == 1
    for reason in left_out:
        assert f"1 {reason} (first " in caplog.text
    open_dataset("site").records()
    assert len(caplog.records) == 1  # said once
    describe(site, strict=True)
    with pytest.raises(CellfeatError, match=r"dataset site is strict: 1 pictures of a kind .*; correct that") as error:
        open_dataset("site").records()
    assert "\n" not in str(error.value)


def test_names_in_another_unicode_form(root):
    (root / "klinik").mkdir()
    Image.new("L", (8, 8)).save(root / "klinik" / unicodedata.normalize("NFD", "Präparat-1.png"))
    (root / "klinik" / "labels.csv").write_text("file,class\nPräparat-1.png,BAS\n", encoding="utf-8")
    describe(root / "klinik", images=".")
    assert [record.label for record in open_dataset("klinik").records()] == ["basophil"]


def test_classes_of_the_project(root):
    for name in ("hairy cell", "Band"):
        (root / "own" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(root / "own" / name / "1.png")
    (root / "classes.csv").write_text("class,parent\nhairy cell,lymphocyte_atypical\nband,neutrophil\nneutrophil,\n")
    describe(root / "own", images=".", labels={"kind": "folder", "classes": "classes.csv"})  # in the data root
    assert [record.label for record in open_dataset("own").records()] == ["band", "hairy cell"]


def test_a_dataset_without_instances_cannot_train_a_detector(site):
    with pytest.raises(CellfeatError, match="brings no masks, boxes or COCO file"):
        open_dataset("site").coco()
