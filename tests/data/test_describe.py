import pytest
from PIL import Image

from cellfeat.data.describe import describe_folder
from cellfeat.data.paths import spec_of
from cellfeat.errors import CellfeatError


def images(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)


def keys(folder):
    return spec_of(describe_folder(folder), "site").model_dump(exclude_defaults=True, exclude={"name", "domain"})


def test_a_vocabulary_without_a_class_for_a_code_does_not_contradict_one_that_has(tmp_path):
    images(tmp_path, "neutrophil/1.png", "lymphocyte/2.png", "monocyte/3.png")
    found = describe_folder(tmp_path)
    assert found.vocabulary.name == "five-part"
    assert found.meaning("neutrophil") == "neutrophil"


def test_class_folders_are_labels_where_a_vocabulary_knows_them(tmp_path):
    images(tmp_path, "BAS/1.png", "LYT/2.png", "other/3.png")
    assert keys(tmp_path) == {"labels": {"kind": "folder", "vocabulary": "matek-19"}}


def test_folders_below_classes_may_be_patients(tmp_path):
    images(tmp_path, "BAS/P1/1.png", "LYT/P2/2.png")
    assert (
        "folders below them (P1, P2); if they are patients, `group: {folder: 2}`"
        in describe_folder(tmp_path).remarks[1]
    )


@pytest.mark.parametrize("folders", [("1", "2", "3"), ("ward A", "ward B"), ("slide_1", "slide_2")])
def test_folders_of_patients_and_slides_are_no_classes(tmp_path, folders):
    images(tmp_path, *(f"{folder}/a.png" for folder in folders))
    found = describe_folder(tmp_path)
    assert found.as_yaml() == {}
    assert "no vocabulary knows; if they are patients, `group: {folder: 1}` in a dataset.yaml" in found.remarks[0]
    assert found.meaning(folders[0]) == "unlabelled"


def test_a_vocabulary_that_leaves_a_code_out_is_not_guessed(tmp_path):
    images(tmp_path, "basophil/1.png", "lymphocyte/2.png", "platelet/3.png")
    assert keys(tmp_path)["labels"]["vocabulary"] != "acevedo-20"


def test_classes_further_down_are_said(tmp_path):
    images(tmp_path, "train/BAS/1.png", "test/LYT/2.png")
    found = describe_folder(tmp_path)
    assert found.as_yaml() == {}
    assert "lie further down" in found.remarks[0]


@pytest.mark.parametrize(
    ("table", "labels"),
    [
        ("file,class\na.png,BAS\nb.png,LYT\n", {"code_column": "class", "file_column": "file"}),
        ("Bild;Befund;Patient\na;basophil;7\nb;monocyte;8\n", {"code_column": "Befund", "file_column": "Bild"}),
    ],
)
def test_a_table_beside_the_images(tmp_path, table, labels):
    images(tmp_path, "images/a.png", "images/b.png")
    (tmp_path / "list.csv").write_text(table)
    found = describe_folder(tmp_path).as_yaml()
    assert found["images"] == "images"
    assert {name: found["labels"][name] for name in labels} == labels
    assert found.get("group") == ("Patient" if "Patient" in table else None)


def test_tables_that_are_no_labels(tmp_path):
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "boxes.csv").write_text("file,x0,y0,x1,y1\na.png,0,0,2,2\na.png,3,3,5,5\n")
    (tmp_path / "notes.csv").write_text("class,what\nBAS,nothing\n")
    (tmp_path / "broken.csv").write_text('file,class\n"a.png,BAS\n')
    found = describe_folder(tmp_path)
    assert found.as_yaml() == {}
    assert [remark.split()[0] for remark in found.remarks] == ["boxes.csv", "not"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["images/a.jpg", "images/b.jpg", "masks/a.png", "masks/b.png"],
            {"images": "images", "masks": {"folder": "masks"}},
        ),
        (
            ["i/x_1.jpg", "i/x_2.jpg", "Ground Truth/mask_1.png", "Ground Truth/mask_2.png"],
            {"images": "i", "masks": {"folder": "Ground Truth", "name": "mask_{number}.png"}},
        ),
        (
            ["a.png", "b.png", "a_mask.png", "b_mask.png"],
            {"exclude": "**/*_mask.*", "masks": {"folder": ".", "name": "{stem}_mask.png"}},
        ),
        (["a.png", "b.png", "masks/other.png"], {"exclude": "masks/**"}),
    ],
)
def test_masks_are_no_images(tmp_path, names, expected):
    images(tmp_path, *names)
    assert keys(tmp_path) == expected
    assert len(describe_folder(tmp_path).listing.files) == 2


def test_a_folder_without_images(tmp_path):
    (tmp_path / "a.czi").write_bytes(b"II*\0")
    with pytest.raises(CellfeatError, match="holds no image that is read; 1 pictures of a kind"):
        describe_folder(tmp_path)
