import pytest
from PIL import Image

from cellfeat.data.catalogue import open_dataset
from cellfeat.data.new_dataset import init_dataset
from cellfeat.errors import CellfeatError


@pytest.fixture
def site(tmp_path):
    """A folder of class folders, two of whose names are codes of Matek-19."""
    folder = tmp_path / "Klinik Süd"
    for name in ("BAS/1.png", "LYT/2.png", "LYT/3.png", "other/4.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20)).save(folder / name)
    return folder


def test_class_folders(site):
    dataset, remarks = init_dataset(site)
    assert (site / "codes.csv").read_text().splitlines()[2:] == [
        "code,class,note",
        "BAS,basophil,1 images",
        "LYT,lymphocyte,2 images",
        "other,unlabelled,1 images",
    ]
    assert remarks[-1] == "codes.csv: 3 codes, 1 of them to complete"
    assert [record.label for record in dataset.records()] == ["basophil", "lymphocyte", "lymphocyte", ""]
    again = open_dataset("Klinik Süd", site.parent)
    assert again.spec == dataset.spec
    assert (again.spec.domain, again.left_out) == ("Klinik Süd", {})


def test_a_codes_csv_that_is_there_is_kept(site):
    (site / "codes.csv").write_text("code,class\nBAS,blast\n")
    dataset, _ = init_dataset(site)
    assert [record.label for record in dataset.records()] == ["blast", "", "", ""]
    (site / "dataset.yaml").unlink()
    (site / "codes.csv").write_text("code,class\nBAS,basofil\n")
    with pytest.raises(CellfeatError, match="basofil"):
        init_dataset(site)
    assert not (site / "dataset.yaml").exists()


def test_annotations_are_used_where_they_can_be_read(tmp_path):
    folder = tmp_path / "site"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (20, 20)).save(folder / "images" / f"{name}.png")
        (folder / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (folder / "annotations.json").write_text("{}")
    dataset, _ = init_dataset(folder)
    assert (dataset.spec.images, dataset.summary().cells) == ("images", 2)
    (folder / "dataset.yaml").unlink()
    (folder / "labels" / "a.txt").write_text("0 0.5 0.5 7 0.4\n")
    dataset, remarks = init_dataset(folder)
    assert dataset.spec.annotations is None
    assert any(remark.startswith("labels is not used as annotations") for remark in remarks)


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "no such folder"), ("described", "dataset.yaml: exists"), ("-a@b", "a dataset's folder begins with")],
)
def test_refusals(tmp_path, name, message):
    for folder in ("described", "-a@b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / folder / "a.png")
    (tmp_path / "described" / "dataset.yaml").touch()
    with pytest.raises(CellfeatError, match=message):
        init_dataset(tmp_path / name)
    assert not (tmp_path / "-a@b" / "dataset.yaml").exists()


def test_codes_of_several_cells_are_taken_apart(tmp_path):
    for name in "abc":
        Image.new("RGB", (20, 20)).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text(
        'file,class\na,eosinophil\nb,"eosinophil, lymphocyte"\nc,"eosinophil,lymphocyte"\n'
    )
    dataset, _ = init_dataset(tmp_path)
    assert len((tmp_path / "codes.csv").read_text().splitlines()) == 5
    assert [record.label for record in dataset.records()] == ["eosinophil", "", ""]
