"""Tables of any content, as any program saves them, are read right or refused in one line."""

from __future__ import annotations

import csv
import io

from hypothesis import given, settings
from hypothesis import strategies as st

from cellfeat.core.text import decode
from cellfeat.data.class_tree import CLASSES, ClassTree
from cellfeat.data.tables import parse_table
from cellfeat.data.vocabulary import load_vocabulary
from cellfeat.errors import CellfeatError

VALUES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8).map(str.strip)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"])


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=5),
    delimiter=st.sampled_from(",;\t"),
    encoding=ENCODINGS,
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_a_table_comes_back_whatever_saved_it(rows, delimiter, encoding, ending):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending)
    writer.writerows([("file", "class", "note"), *rows])
    table = parse_table(decode(text.getvalue().encode(encoding), "table"), "table")
    assert [tuple(row.values()) for row in table.rows] == [row for row in rows if any(row)]


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text('a,;\t"\n\r#=é\0', max_size=30).map(str.encode)))
def test_any_bytes_are_a_table_or_one_line(content):
    said = ""
    try:
        parse_table(decode(content, "table"), "table", comments=True).column("no such column")
    except CellfeatError as error:
        said = str(error)
    assert said.startswith("table")
    assert len(said.splitlines()) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(VALUES, st.sampled_from([*CLASSES, "neutrophil, eosinophil"])), max_size=5))
def test_any_code_has_a_meaning_or_is_unknown(codes):
    vocabulary = load_vocabulary("five-part")
    unknown = set(vocabulary.unknown(codes))
    for code, label in zip(codes, vocabulary.translate(codes), strict=True):
        assert label in (*CLASSES, "neutrophil", "", None)
        assert not (code in unknown and label)


NAMES = st.sampled_from("abcdefgh")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(NAMES, NAMES, max_size=8), st.sets(NAMES), st.sets(NAMES))
def test_shared_classes_exclude_each_other(edges, one, other):
    tree = ClassTree({name: above if name > above else "" for name, above in edges.items()})  # no circles
    shared = tree.shared(one, other)
    assert set(shared) == one | other
    kept = set(shared.values()) - {""}
    for label, name in shared.items():
        assert not name or name in tree.with_ancestors(label)
    for name in kept:
        assert not set(tree.with_ancestors(name)[1:]) & kept
        for site in (one, other):
            assert any(name in tree.with_ancestors(label) for label in site)
    assert {label for label in one & other if not any(label in tree.with_ancestors(o)[1:] for o in one & other)} <= kept
