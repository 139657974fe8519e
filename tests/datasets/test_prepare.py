"""Each prepare script on a miniature of the original download's layout."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellfeat.data.catalogue import open_dataset

SCRIPTS = Path(__file__).parents[2] / "datasets"
MASK = np.zeros((60, 60), dtype=np.uint8)
MASK[10:40, 10:40] = 155
MASK[20:30, 20:30] = 255

GOOD = {"Label1": "Monocyte", "Label2": "Monocyte", "x1": "5", "y1": "6", "x2": "50", "y2": "60"}


@pytest.fixture
def download(tmp_path):
    return tmp_path / "download"


@pytest.fixture
def run(tmp_path, download, monkeypatch, capsys):
    """Run a script on the download; its exit status and what it printed."""

    def run_script(name):
        monkeypatch.setattr(sys, "argv", [name, str(download), "--output", str(tmp_path / "root")])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    return run_script


def save(path, array=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((60, 60, 3), dtype=np.uint8) if array is None else array).save(path)


def labels(tmp_path, name):
    return {r.image_id: r.label for r in open_dataset(name, tmp_path / "root").records()}


def test_matek19(tmp_path, download, run):
    base = download / "PKG - AML-Cytomorphology_LMU" / "AML-Cytomorphology_LMU"
    for name in ("LYT/LYT_0001", "LYT/LYT_0002", "MOB/MOB_0001", "PMB/PMB_0001"):
        save(base / f"{name}.tiff")
    (download / "annotations.dat").write_text("LYT/LYT_0001.tiff LYT nan nan\nLYT/LYT_0002.tiff LYA LYT nan\n")
    assert run("prepare_matek19.py") == (0, "matek-19: 3 images, 3 labelled in 3 classes, 1 PMB dropped\n")
    assert labels(tmp_path, "matek-19") == {
        "matek-19/LYT/LYT_0001.tiff": "lymphocyte",
        "matek-19/LYT/LYT_0002.tiff": "lymphocyte_atypical",
        "matek-19/MOB/MOB_0001.tiff": "monocyte",
    }
    assert run("prepare_matek19.py")[0] == 0  # a second run finds its own link


def test_acevedo20(tmp_path, download, run):
    base = download / "PBC_dataset_normal_DIB"
    for name in (
        "erythroblast/ERB_1",
        "ig/MMY_2",
        "ig/IG_3",
        "neutrophil/SNE_4",
        "neutrophil/.DS_5",
        "platelet/PLATELET_6",
    ):
        save(base / f"{name}.jpg")
    assert run("prepare_acevedo20.py") == (
        0,
        "acevedo-20: 3 images, 3 labelled in 3 classes, 1 IG dropped, 1 PLATELET dropped\n",
    )
    assert set(labels(tmp_path, "acevedo-20").values()) == {"erythroblast", "metamyelocyte", "neutrophil_segmented"}


def test_matek21(tmp_path, download, run):
    for name in ("NGS/0001-1000/NGS_00001", "PEB/PEB_00001", "NIF/NIF_00001", "PLM/PLM_00001"):
        save(download / "BM_cytomorphology_data" / f"{name}.jpg")
    assert run("prepare_matek21.py") == (0, "matek-21: 3 images, 2 labelled in 2 classes, 1 NIF dropped\n")
    assert set(labels(tmp_path, "matek-21").values()) == {"neutrophil_segmented", "erythroblast", ""}


def test_sidhom21(tmp_path, download, run):
    base = download / "DeepAPL" / "Data" / "All"
    for name in (
        "Patient_07/Signed slides/Blast, no lineage spec/BL_1",
        "Patient_08/2018-12-16/Signed slides/Monocyte/MO_2",
        "Patient_08/Signed slides/Lymphocyte/MO_3",  # in the wrong folder
        "Patient_08/Signed slides/Giant thrombocyte/GT_4",
        "Patient_08/Unsigned slides/LY_5",
    ):
        save(base / f"{name}.jpg")
    status, printed = run("prepare_sidhom21.py")
    assert status == 0
    assert printed.startswith("sidhom-21: 3 images, 2 labelled in 2 classes, 1 GT dropped")
    records = {record.image_id: record for record in open_dataset("sidhom-21", tmp_path / "root").records()}
    wrong = records["sidhom-21/Patient_08/Signed slides/Lymphocyte/MO_3.jpg"]
    assert wrong.label == ""
    assert wrong.group == "Patient_08"


def test_unknown_prefix_is_named(download, run):
    save(download / "erythroblast" / "XYZ_1.jpg")
    assert run("prepare_acevedo20.py") == (
        0,
        "acevedo-20: 1 images, 0 labelled in 0 classes; "
        "1 images unlabelled, their code is not in vocabulary acevedo-20 (first erythroblast/XYZ_1.jpg with 'XYZ')\n",
    )


def test_segmentation_wbc(tmp_path, download, run):
    for number in (1, 2):
        folder = download / "segmentation_WBC-master" / f"Dataset {number}"
        for name in ("001", "002"):
            save(folder / f"{name}.bmp")
            save(folder / f"{name}.png", MASK)
        (folder.parent / f"Class Labels of Dataset {number}.csv").write_text("image ID,class label\n1,2\n2,1\n")
    status, printed = run("prepare_segmentation_wbc.py")
    assert status == 0
    assert printed.splitlines()[1] == "segmentation-wbc-2: 2 images, 2 labelled in 2 classes, 2 reference cells"
    dataset = open_dataset("segmentation-wbc-1", tmp_path / "root")
    assert [record.label for record in dataset.records()] == ["lymphocyte", "neutrophil"]
    assert dataset.coco()["annotations"][0]["bbox"] == [10, 10, 30, 30]


def test_bccd(tmp_path, download, run):
    base = download / "wbc_nucleus_seg_localz" / "Datasets"
    save(base / "Input" / "BCCD" / "BloodImage_00001.jpg")
    save(base / "Input" / "BCCD" / "BloodImage_00002.jpg")
    save(base / "Ground Truth" / "BCCD" / "BloodImage_Mask_00001.png", np.repeat(MASK[..., None], 3, axis=2))
    assert run("prepare_bccd.py") == (0, "bccd: 2 images, 0 labelled in 0 classes, 1 reference cells\n")
    assert len(open_dataset("bccd", tmp_path / "root").coco()["images"]) == 1


def test_raabin(tmp_path, download, run):
    base = download / "Raabin-WBC Data" / "GrTh"
    save(base / "Original" / "Eosinophil" / "95-5-4-1_45_1.jpg")
    save(
        base / "Ground Truth" / "Eosinophil" / "95-5-4-1_45_1.bmp",
        np.where(MASK == 255, 100, np.where(MASK, 255, 0)).astype("u1"),
    )
    slide = download / "First_microscope" / "95-5-11-1"
    save(slide / "images" / "20160801.jpg")
    cells = {
        "Cell Numbers": 2,
        "Cell_0": {"x1": "5", "y1": "6", "x2": "70", "y2": "26", "Label1": "Band", "Label2": "Band"},
        "Cell_1": {"x1": "1", "y1": "1", "x2": "9", "y2": "9", "Label1": "Artifact", "Label2": "Artifact"},
    }
    (slide / "jsons").mkdir()
    (slide / "jsons" / "20160801.json").write_text(json.dumps(cells))
    status, printed = run("prepare_raabin.py")
    assert status == 0
    assert printed.splitlines() == [
        "raabin-wbc: 1 images, 1 labelled in 1 classes, 1 reference cells",
        "raabin-wbc-fields: 1 images, 0 labelled in 0 classes, 1 reference cells",
    ]
    fields = open_dataset("raabin-wbc-fields", tmp_path / "root")
    assert fields.records()[0].boxes == ((5, 6, 60, 26),)  # cut at the image's edge


def test_a_box_outside_its_image_is_refused(download, run):
    save(download / "slide" / "images" / "a.jpg")
    (download / "slide" / "jsons").mkdir()
    cell = {"x1": 100, "y1": 1, "x2": 200, "y2": 20, "Label1": "Band", "Label2": "Band"}
    (download / "slide" / "jsons" / "a.json").write_text(json.dumps({"Cell_0": cell}))
    status, printed = run("prepare_raabin.py")
    assert status == 2
    assert "a.json: Cell_0 lies outside its image" in printed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"Cell_0": GOOD, "Cell_1": {"Label1": "Monocyte"}}, "a.json: Cell_1.x1 is None, not a number of pixels"),
        ({"Cell_0": {**GOOD, "x1": ""}}, "a.json: Cell_0.x1 is '', not a number"),
        ({"Cell_0": {**GOOD, "y2": "nan"}}, "a.json: Cell_0.y2 is 'nan', not a number"),
        ({"Cell_0": {**GOOD, "y2": [1]}}, "a.json: Cell_0.y2 is .1., not a number"),
        ({"Cell_0": None}, "a.json: Cell_0 is None, not an object"),
        ([], "a.json: not a JSON object of cells"),
    ],
)
def test_damaged_fields_are_named(download, run, content, message):
    save(download / "slide" / "images" / "a.jpg")
    (download / "slide" / "jsons").mkdir()
    (download / "slide" / "jsons" / "._a.json").write_bytes(b"\0")
    (download / "slide" / "jsons" / "a.json").write_text(json.dumps(content))
    status, printed = run("prepare_raabin.py")
    assert status == 2
    assert re.search(message, printed)
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("table", "result"),
    [
        ("image ID;class label\n1.0;2.0\n;\n2;1\n", "2 images, 2 labelled in 2 classes, 2 reference cells\n"),
        ("image ID,class label\n001.bmp,2\n002.BMP,3\n", "2 images, 2 labelled in 2 classes, 2 reference cells\n"),
        ("image ID,class label\none,1\n", "line 2: image ID 'one' is no number"),
        ("image ID\n1\n", "needs two columns"),
    ],
)
def test_tables_of_segmentation_wbc_as_excel_saves_them(download, run, table, result):
    for number in (1, 2):
        for name in ("001", "002"):
            save(download / f"Dataset {number}" / f"{name}.bmp")
            save(download / f"Dataset {number}" / f"{name}.PNG", MASK)
        (download / f"Class Labels of Dataset {number}.csv").write_text(table)
    status, printed = run("prepare_segmentation_wbc.py")
    assert result in printed
    assert status == (0 if "images" in result else 2)


def test_what_systems_leave_in_a_download_is_no_image(tmp_path, download, run):
    save(download / "__MACOSX" / "erythroblast" / "ERB_9.jpg")
    save(download / "set" / "erythroblast" / "ERB_1.jpg")
    save(download / "set" / "erythroblast" / "@eaDir" / "ERB_1.jpg" / "SYNOPHOTO_THUMB_M.jpg")
    save(download / "set" / "erythroblast" / "._ERB_1.jpg")
    assert run("prepare_acevedo20.py") == (0, "acevedo-20: 1 images, 1 labelled in 1 classes\n")
    assert list(labels(tmp_path, "acevedo-20")) == ["acevedo-20/erythroblast/ERB_1.jpg"]


def test_annotations_in_a_code_page_are_refused(download, run):
    save(download / "LYT" / "LYT_1.tiff")
    (download / "annotations.dat").write_bytes("LYT/LYT_1.tiff LYT größer\n".encode("cp1252"))
    status, printed = run("prepare_matek19.py")
    assert status == 2
    assert "annotations.dat: not UTF-8" in printed


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("prepare_*.py")))
def test_wrong_download(download, run, script):
    status, printed = run(script)
    assert status == 2
    assert str(download) in printed
    download.mkdir()
    status, printed = run(script)
    assert status == 2
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1


def test_standing_images_are_not_replaced(tmp_path, download, run):
    save(download / "erythroblast" / "ERB_1.jpg")
    (tmp_path / "root" / "acevedo-20" / "original").mkdir(parents=True)
    status, printed = run("prepare_acevedo20.py")
    assert status == 2
    assert "is there already" in printed
