"""The page in Chromium, drawn by software: where Chromium or Playwright is missing, these tests skip."""

from __future__ import annotations

import shutil
import threading

import pytest
from view_names import HOSTILE

from cellfeat.view.security import Access
from cellfeat.view.serve import listen
from cellfeat.view.server import application

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PATIENCE = 120_000  # ms; on busy cores a page of software drawing takes many seconds


@pytest.fixture(scope="module")
def link(view_cells):
    """The link of a server that runs beside the test."""
    import uvicorn

    with listen("127.0.0.1", 0) as bound:
        access = Access("127.0.0.1", bound.getsockname()[1])
        server = uvicorn.Server(uvicorn.Config(application(view_cells, access), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        yield access.link
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture
def page(browser, link):
    """The page, opened by its link; the test fails where the browser reports an error."""
    page, errors = browser.new_page(viewport={"width": 1280, "height": 800}), []
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(link)
    page.wait_for_selector("body[data-ready]")
    yield page
    page.close()
    assert errors == []


def test_the_page_shows_names_as_text_and_keeps_its_state_in_the_address(page):
    assert "token" not in page.url
    assert HOSTILE in page.inner_text("#legend")
    page.keyboard.press("m")  # colours of the next column, the labels
    page.wait_for_function("document.querySelector('#legend h2').textContent === 'label'")
    page.click(f"#legend button[aria-label='Only {'blast'}']")
    page.wait_for_function("document.querySelector('#shown').textContent.startsWith('8 of 16')")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#cell-id")
    assert HOSTILE in page.inner_text("#cell-id")
    page.reload()
    page.wait_for_selector("#cell-id")
    assert page.inner_text("#shown").startswith("8 of 16")
    assert page.inner_text("#legend h2") == "label"
    assert "owned" not in page.title()


def test_a_lasso_fills_the_gallery(page):
    page.keyboard.press("l")
    box = page.locator("#plot-a canvas").bounding_box()
    left, top, right, low = box["x"] + 2, box["y"] + 2, box["x"] + box["width"] - 2, box["y"] + box["height"] - 2
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, low), (left, low), (left, top + 9)):
        page.mouse.move(x, y, steps=6)
        page.wait_for_timeout(50)
    page.mouse.up()
    page.wait_for_function("document.querySelector('#shown').textContent.endsWith(' 15 selected')")
    assert page.locator("#panel .tile").count() == 15  # the first cell is not on this map
