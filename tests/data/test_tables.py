import pytest

from cellfeat.data.tables import read_table
from cellfeat.errors import CellfeatError


def table(tmp_path, text, **options):
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return read_table(path, **options)


ROWS = [{"file": "a.png", "class": "MON"}, {"file": "b c.png", "class": "no, none"}]


@pytest.mark.parametrize(
    "text",
    [
        'file,class\na.png,MON\nb c.png,"no, none"\n',
        "file;class\na.png;MON\nb c.png;no, none\n",
        "file\tclass\r\na.png\tMON\r\nb c.png\tno, none\r\n",
        "sep=;\nfile;class\na.png;MON\nb c.png;no, none",
        '\n , \n"file", class ,\n a.png,MON\n,\n\nb c.png, "no, none",,\n',
    ],
)
def test_delimiters_and_empty_rows(tmp_path, text):
    read = table(tmp_path, text)
    assert read.columns == ("file", "class")
    assert read.rows == ROWS
    assert text.splitlines()[read.lines[1] - 1].strip().startswith("b c.png")


def test_names_of_columns_in_any_case(tmp_path):
    read = table(tmp_path, "File Name;CLASS;class\na;b;c\n")
    assert read.column("filename") == "File Name"
    assert read.values("class") == ["c"]
    assert read.has(["FILENAME"])
    assert not read.has(["file"])
    with pytest.raises(CellfeatError, match="several columns 'Class'; it has File Name, CLASS, class"):
        read.column("Class")
    with pytest.raises(CellfeatError, match="no column 'patient'"):
        read.column("patient")


def test_comments_are_left_out_where_asked(tmp_path):
    text = "# a comment; with , marks\ncode,class\n#1,MON\n"
    assert table(tmp_path, text, comments=True).rows == []
    assert table(tmp_path, "code,class\n#1,MON\n").rows == [{"code": "#1", "class": "MON"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty table"),
        ("\n,\n", "an empty table"),
        ("sep=,\n", "an empty table"),
        ("file,class,class\na,b,c\n", "two columns are named 'class'"),
        ("file,class\na,b\nc,d,e\n", "line 3: 3 values for 2 columns; put values that hold a , into double quotes"),
        ('file,class\n"a.png,b\nc.png,d\n', "line 4: not a table .unexpected end of data"),
        ("file,class\na," + "x" * 200_000 + "\n", "line 2: not a table .field larger"),
    ],
)
def test_faulty_tables_are_refused(tmp_path, text, message):
    with pytest.raises(CellfeatError, match=message) as error:
        table(tmp_path, text)
    assert "\n" not in str(error.value)
