"""The app of examples/, headless: where Streamlit is missing, these tests skip."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from known_stores import make_store

AppTest = pytest.importorskip("streamlit.testing.v1").AppTest
EXAMPLES = Path(__file__).parents[2] / "examples"
PAGES = sorted((EXAMPLES / "pages").glob("*.py"))
PATIENCE = 120  # s


@pytest.fixture
def app(tmp_path, monkeypatch):
    """The app on a small store, beside a comparison that holds tables alone."""
    store = make_store(tmp_path / "store", per_class=2)
    (tmp_path / "comparison").mkdir()
    (tmp_path / "comparison" / "leaderboard.csv").write_text("method,macro_f1\naecfe,0.5\n")
    lines = ["method,classifier,protocol,train,test,metric,mean", "aecfe,forest,paper,site-a,site-b,macro_f1,0.5"]
    (tmp_path / "comparison" / "table.csv").write_text("\n".join(lines))
    monkeypatch.setenv("CELLFEAT_STORE", str(store.path))
    monkeypatch.setenv("CELLFEAT_COMPARISON", str(tmp_path / "comparison"))
    # Streamlit puts the app in its place and leaves it there: processes that later tests start would run the app.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    return AppTest.from_file(str(EXAMPLES / "streamlit_app.py"), default_timeout=PATIENCE).run()


def test_it_is_short_and_asks_public_functions_alone():
    texts = [path.read_text() for path in (EXAMPLES / "streamlit_app.py", *PAGES)]
    assert sum(len(text.splitlines()) for text in texts) <= 150
    assert not [text for text in texts if "._" in text or "import _" in text]


def test_every_page_shows_what_there_is(app):
    assert not app.exception
    assert [metric.value for metric in app.metric] == ["14", "3", "3"]
    titles = []
    for page in PAGES:
        app.switch_page(str(page.relative_to(EXAMPLES))).run()
        assert not app.exception
        assert not app.error
        titles += [title.value for title in app.title]
    assert titles == ["Exploration", "Models and their scores", "Predict"]


def test_what_is_missing_is_said(app, monkeypatch, tmp_path):
    monkeypatch.setenv("CELLFEAT_STORE", str(tmp_path / "absent"))
    app.run()
    assert "CELLFEAT_STORE names the store" in app.error[0].value
