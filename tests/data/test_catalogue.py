import os
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cellfeat.core.files import write_json
from cellfeat.data.catalogue import data_root, dataset_names, describe_datasets, open_dataset
from cellfeat.data.dataset import mask_name, split_of
from cellfeat.data.outside import outside_paths
from cellfeat.data.vocabulary import load_vocabulary
from cellfeat.errors import CellfeatError

CODES = ["BAS", "MOB", "PMB", ""]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLFEAT_DATASETS", str(tmp_path))
    return tmp_path


@pytest.fixture
def site(root):
    """A self-describing dataset: 4 images of 40 x 30 px, codes of Matek-19 in a table."""
    folder = root / "site"
    (folder / "images" / "sub").mkdir(parents=True)
    names = ["a.png", "b.png", "sub/c.png", "sub/d.png"]
    for name in names:
        Image.new("RGB", (40, 30)).save(folder / "images" / name)
    (folder / "images" / "._a.png").write_text("not an image of the set")
    (folder / "labels.csv").write_text("file,class\n" + "".join(f"{n},{c}\n" for n, c in zip(names, CODES)))
    describe(folder)
    return folder


def describe(folder, **keys):
    labels = {"kind": "csv", "file": "labels.csv", "vocabulary": "matek-19"}
    keys = {"images": "images", "labels": labels, "um_per_px": 0.08, **keys}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(keys))


def coco_file(folder, names=("a.png", "sub/c.png"), **changes):
    square = {"bbox": [5, 6, 10, 8], "segmentation": [[5, 6, 15, 6, 15, 14, 5, 14]]}
    content = {
        "images": [{"id": i, "file_name": name, "height": 30, "width": 40} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "category_id": 7, **square} for i in range(len(names))],
        "categories": [{"id": 7, "name": "cell"}],
    }
    write_json(folder / "coco.json", content | changes)


def test_data_root(monkeypatch):
    monkeypatch.delenv("CELLFEAT_DATASETS", raising=False)
    assert data_root() == Path("datasets")
    monkeypatch.setenv("CELLFEAT_DATASETS", "/data/blood")
    assert data_root() == Path("/data/blood")


def test_every_entry_of_the_catalogue_is_sound(root):
    names = dataset_names()
    assert {"matek-19", "acevedo-20", "int-20", "pbc-barcelona", "wbc-seg-bccd", "raabin-boxes"} <= set(names)
    for name in names:
        spec = open_dataset(name).spec
        assert spec.name == name
        assert spec.title
        assert spec.licence != "not stated"
        assert spec.citation != "not stated"
        load_vocabulary(spec.labels.vocabulary)


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


def test_mask_names():
    assert mask_name("sub/Blood_00012.jpg", "Mask_{number}.png") == "sub/Mask_00012.png"
    assert mask_name("a.b.jpg", "{stem}_m.png") == "a.b_m.png"


def test_coco_from_file(site):
    coco_file(site)
    describe(site, coco="coco.json")
    dataset = open_dataset("site")
    assert dataset.records()[0].boxes == ((5, 6, 15, 14),)
    assert dataset.records()[1].boxes == ()
    coco = dataset.coco()
    assert coco["categories"] == [{"id": 1, "name": "WBC"}]
    (one,) = coco["annotations"]  # the other image is a deliberate drop
    assert one["category_id"] == 1
    assert one["image_id"] == coco["images"][0]["id"]
    assert isinstance(one["segmentation"]["counts"], str)


def test_labels_from_coco(site):
    coco_file(site, categories=[{"id": 7, "name": "EOS"}])
    describe(site, coco="coco.json", labels={"kind": "coco", "vocabulary": "matek-19"})
    assert [record.label for record in open_dataset("site").records()] == ["eosinophil", "", "eosinophil", ""]


def test_faulty_coco_files(site):
    describe(site, coco="coco.json")
    image = {"id": 1, "file_name": "a.png", "height": 30, "width": 40}
    box = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}
    faults = {
        "no list 'annotations'": {"annotations": None},
        "image 1 has no height, width": {"images": [{"id": 1, "file_name": "a.png"}]},
        "id 1 occurs twice in images": {"images": [image, image]},
        "file_name a.png occurs twice": {"images": [image, image | {"id": 2}], "annotations": []},
        "none of its 1 images is among .*first gone.png": {
            "images": [image | {"file_name": "gone.png"}],
            "annotations": [box],
        },
        "belongs to image 9": {"images": [image], "annotations": [box | {"image_id": 9}]},
        "has category 9": {"images": [image], "annotations": [box | {"category_id": 9}]},
        "positive sides": {"images": [image], "annotations": [box | {"bbox": [1, 2, 0, 4]}]},
        "neither polygons nor RLE": {"images": [image], "annotations": [box | {"segmentation": [1, 2]}]},
        "31 px there": {"images": [image | {"height": 31}], "annotations": [box]},
        "categories cell, RBC; name those": {"categories": [{"id": 7, "name": "cell"}, {"id": 8, "name": "RBC"}]},
    }
    for message, change in faults.items():
        coco_file(site, **change)
        with pytest.raises(CellfeatError, match=message) as caught:
            open_dataset("site").coco()
        assert "\n" not in str(caught.value)
    (site / "coco.json").unlink()
    with pytest.raises(
        CellfeatError,
        match=r"coco.json: no such file or folder of annotations; for a public set",
    ):
        open_dataset("site").coco()


def test_chosen_categories_of_a_coco_file(site):
    two = [{"id": 7, "name": "WBC"}, {"id": 8, "name": "RBC"}]
    box = {"image_id": 1, "bbox": [1, 2, 3, 4]}
    annotations = [{"id": 1, "category_id": 7, **box}, {"id": 2, "category_id": 8, **box}]
    image = {"id": 1, "file_name": "a.png", "height": 30, "width": 40}
    coco_file(site, images=[image], annotations=annotations, categories=two)
    describe(site, coco="coco.json", coco_categories=["WBC"])
    (one,) = open_dataset("site").coco()["annotations"]
    assert "segmentation" not in one


@pytest.mark.parametrize(
    "table", ["file,x_center,y_center,width,height\na.png,0.5,0.5,0.5,0.4\n", "file,x0,y0,x1,y1\na.png,10,9,30,21\n"]
)
def test_boxes_from_a_table(site, table):
    (site / "boxes.csv").write_text(table)
    describe(site, boxes={"kind": "csv", "file": "boxes.csv"})
    dataset = open_dataset("site")
    assert dataset.records()[0].boxes[0] == pytest.approx((10, 9, 30, 21))
    coco = dataset.coco()
    assert [image["image_id"] for image in coco["images"]] == ["site/a.png"]
    assert coco["annotations"][0]["bbox"] == pytest.approx([10, 9, 20, 12])
    assert "segmentation" not in coco["annotations"][0]


def test_boxes_from_yolo(site):
    (site / "boxes" / "sub").mkdir(parents=True)
    (site / "boxes" / "a.txt").write_text("1 0.5 0.5 0.1 0.1\n0 0.9 0.5 0.4 0.4\n")
    (site / "boxes" / "sub" / "d.txt").write_text("")
    describe(site, boxes={"kind": "yolo", "folder": "boxes"})
    coco = open_dataset("site").coco()
    assert [image["image_id"] for image in coco["images"]] == ["site/a.png", "site/sub/d.png"]
    assert coco["annotations"][0]["bbox"] == pytest.approx([28, 9, 12, 12])  # cut at the image's edge
    (site / "boxes" / "a.txt").write_text("0 0.5 0.5 0.1\n")
    with pytest.raises(CellfeatError, match=r"a.txt, line 1: needs five words"):
        open_dataset("site").coco()


def test_an_unreadable_image_stays_in_the_list(site):
    (site / "images" / "a.png").write_text("broken")
    (site / "boxes.csv").write_text("file,x0,y0,x1,y1\na.png,1,1,5,5\n")
    describe(site, boxes={"kind": "csv", "file": "boxes.csv"})
    record = open_dataset("site").records()[0]
    assert (record.image_id, record.boxes) == ("site/a.png", ())


def test_missing_datasets_say_what_to_do(root):
    with pytest.raises(CellfeatError, match=r"'matek19': not in the catalogue .*matek-19.*CELLFEAT_DATASETS"):
        open_dataset("matek19")
    with pytest.raises(
        CellfeatError,
        match=r"no folder .*matek-19/original; get its images",
    ):
        open_dataset("matek-19").records()
    (root / "matek-19" / "original").mkdir(parents=True)
    with pytest.raises(CellfeatError, match=r"no image in .* matches '\*/\*.tiff'"):
        open_dataset("matek-19").records()


def test_faulty_descriptions(site):
    faults = {
        "unknown key 'maks'": {"maks": {}},
        "unknown key 'labels.fiel'": {"labels": {"kind": "none", "fiel": 1}},
        "um_per_px: .*greater than 0": {"um_per_px": 0},
        "um_per_px: .*finite": {"um_per_px": float("inf")},
        "bits: .*less than or equal to 16 .got 24": {"bits": 24},
        "bits: .*greater than or equal to 8": {"bits": 1},
        "domain: ": {"domain": "  "},
        "images: holds a control character": {"images": "a\0b"},
        "only one of masks, annotations, coco and boxes": {"coco": "c.json", "masks": {"folder": "m"}},
        "labels: .*kind csv needs it": {"labels": {"kind": "csv"}},
        "kind csv needs `file`": {"boxes": {"kind": "csv"}},
        "labels of kind coco": {"labels": {"kind": "coco"}},
        "name is 'other'": {"name": "other"},
    }
    for message, change in faults.items():
        describe(site, **change)
        with pytest.raises(CellfeatError, match=message) as caught:
            open_dataset("site")
        assert "\n" not in str(caught.value)
    for text in ("a: [", "- 1\n"):
        (site / "dataset.yaml").write_text(text)
        with pytest.raises(CellfeatError, match=r"dataset.yaml"):
            open_dataset("site")


@pytest.mark.parametrize(
    "path", ["../images", "/etc", "a/../../b", "C:\\images", "..\\images", "\\\\server\\share", "~/images", "C:images"]
)
@pytest.mark.parametrize(
    "key", ["images", "pattern", "table", "labels.file", "labels.vocabulary", "masks.folder", "masks.name", "coco"]
)
def test_a_description_cannot_leave_its_folder(site, path, key):
    outer, _, inner = key.partition(".")
    described = {"labels": {"kind": "csv", "file": "labels.csv"}, "masks": {"folder": "masks"}}.get(outer, {})
    keys = {outer: described | {inner: path} if inner else path}
    describe(site, **keys)
    with pytest.raises(CellfeatError, match=r"leaves the dataset's folder; put a link .* --allow-outside") as error:
        open_dataset("site")
    assert key in str(error.value)
    with outside_paths():
        open_dataset("site")


def test_links_within_the_folder_are_followed(site, tmp_path):
    (site / "images").rename(tmp_path / "elsewhere")
    (site / "images").symlink_to(tmp_path / "elsewhere")
    assert len(open_dataset("site").records()) == 3


def test_an_empty_description_means_defaults(root):
    for name in ("Klinik München 1", unicodedata.normalize("NFD", "Präparate"), "St. Mary's"):
        (root / name).mkdir()
        (root / name / "dataset.yaml").touch()
        Image.new("L", (8, 8)).save(root / name / "a.png")
    [record] = open_dataset("Klinik München 1").records()
    assert (record.image_id, record.domain, record.label) == ("Klinik München 1/a.png", "Klinik München 1", "")
    [record] = open_dataset("Präparate").records()
    assert record.image_id == "Präparate/a.png"
    assert len(open_dataset("St. Mary's").records()) == 1


def test_a_faulty_description_hides_no_other(site, root):
    faults = {"yaml": b"a: [", "bytes": "title: Universität".encode("cp1252"), "key": b"maks: {}", "@": b""}
    for name, content in faults.items():
        (root / name).mkdir()
        (root / name / "dataset.yaml").write_bytes(content)
    os.mkfifo(root / "pipe")
    (root / "fifo").mkdir()
    os.mkfifo(root / "fifo" / "dataset.yaml")
    os.mkdir(os.fsencode(root) + b"/gr\xf6\xdfe")
    (Path(os.fsdecode(os.fsencode(root) + b"/gr\xf6\xdfe")) / "dataset.yaml").touch()
    found = describe_datasets()
    assert not isinstance(found["site"], CellfeatError)
    assert not isinstance(found["matek-19"], CellfeatError)
    faulty = {name for name, spec in found.items() if isinstance(spec, CellfeatError)}
    assert faulty == {*faults, "fifo", "gr\\xf6\\xdfe"}
    assert all("\n" not in str(found[name]) for name in faulty)


def test_a_description_of_a_known_set_is_said_not_to_be_read(root, caplog):
    (root / "bccd").mkdir()
    (root / "bccd" / "dataset.yaml").write_text("title: my own\n")
    assert open_dataset("bccd").spec.title != "my own"
    assert "the package knows bccd; rename the folder" in caplog.text


def test_faulty_label_tables(site):
    faults = {
        "no column 'class'; it has file, kind": "file,kind\na.png,BAS\n",
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


@pytest.fixture
def subsets():
    if not (data_root() / "pbc-barcelona").is_dir():
        pytest.skip("CELLFEAT_DATASETS names no folder with the subsets of datasets/README.md")


@pytest.mark.parametrize(
    ("name", "images", "classes", "instances"),
    [
        ("pbc-barcelona", 1500, 10, 1347),
        ("apl-hopkins", 867, 13, None),
        ("marrow-munich", 360, 6, None),
        ("aml-munich", 200, 2, None),
        ("raabin-boxes", 100, 0, 101),
        ("wbc-seg-tecom", 217, 4, 217),
        ("wbc-seg-cellavision", 67, 4, 67),
        ("wbc-seg-bccd", 259, 4, 269),
    ],
)
def test_counts_of_the_subsets(subsets, name, images, classes, instances):
    dataset = open_dataset(name)
    records = dataset.records()
    assert len(records) == images
    assert len({record.group for record in records}) == (81 if name == "apl-hopkins" else 1)
    assert len({record.label for record in records} - {""}) == classes
    assert dataset.dropped == {}
    if instances is not None:
        assert len(dataset.coco()["annotations"]) == instances


@pytest.mark.parametrize("name", ["wbc-seg-tecom", "wbc-seg-cellavision", "wbc-seg-bccd"])
def test_components_are_those_of_the_tables(subsets, name):
    from cellfeat.data.tables import read_table

    rows = read_table(data_root() / name / "labels.csv").rows
    expected = {f"{name}/{row['file']}": int(row["wbc_components"]) for row in rows}
    coco = open_dataset(name).coco()
    found = Counter(annotation["image_id"] for annotation in coco["annotations"])
    assert {image["image_id"]: found[image["id"]] for image in coco["images"]} == expected
