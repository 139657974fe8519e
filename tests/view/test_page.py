"""The page in Chromium, drawn by software: where Chromium or Playwright is missing, these tests skip."""

from __future__ import annotations

import io
import shutil
import threading

import numpy as np
import pytest
from PIL import Image
from view_names import HOSTILE, halves

from cellfeat.view.annotations import AnnotationLog
from cellfeat.view.security import Access
from cellfeat.view.serve import listen
from cellfeat.view.server import application
from cellfeat.view.uploads import Uploads

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PATIENCE = 120_000  # ms; on busy cores a page of software drawing takes many seconds


@pytest.fixture(scope="module")
def link(view_cells, tmp_path_factory):
    """The link of a server that runs beside the test, lets labels be written and pictures be sent."""
    import uvicorn

    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    log = AnnotationLog(path, view_cells.store.digest, view_cells.labels)
    with listen("127.0.0.1", 0) as bound:
        access = Access("127.0.0.1", bound.getsockname()[1])
        app = application(view_cells, access, log, HOSTILE, Uploads(halves))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
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


@pytest.fixture(scope="module")
def pages(browser, link):
    """Two windows, opened by the link; the tests fail where the browser reports an error that is no refusal."""
    windows, errors = [], []
    for _ in range(2):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(link)
        page.wait_for_selector("body[data-ready]")
        windows.append(page)
    yield windows
    assert [error for error in errors if "409 (Conflict)" not in error] == []
    assert "owned" not in [page.title() for page in windows]


@pytest.fixture
def page(pages):
    """One window."""
    return pages[0]


def until(page, text: str, selector: str = "#status") -> None:
    """Wait until an element shows a text."""
    page.wait_for_function(
        "([at, text]) => document.querySelector(at)?.textContent.includes(text)", arg=[selector, text]
    )


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
    page.click("#legend .chip")  # the filter goes
    page.wait_for_function("document.querySelector('#shown').textContent.startsWith('16 of 16')")


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
    page.wait_for_selector("#panel .tiles[data-loaded='true']")
    assert "selected=1-15" in page.url
    page.keyboard.press("Escape")


DENSITY = """async () => {
    const { default: create } = await import("/static/density.js");
    const box = document.createElement("div"), canvas = document.createElement("canvas");
    Object.assign(box.style, { position: "fixed", left: 0, top: 0, width: "200px", height: "100px" });
    box.append(canvas);
    document.body.append(box);
    const plot = create({ canvas }), selected = [];
    plot.subscribe("select", ({ points }) => selected.push(points));
    plot.set({ pointColor: ["#ff0000", "#0000ff"], mouseMode: "lasso" });
    await plot.draw({ x: Float32Array.of(-1, 0, 1), y: Float32Array.of(0, 0, 0.5), valueA: Int32Array.of(0, 1, 1) });
    const at = (x, y) => [...canvas.getContext("2d").getImageData(x, y, 1, 1).data];
    const colours = [at(50, 50), at(100, 50), at(150, 25), at(20, 20)];
    canvas.setPointerCapture = () => {};
    const send = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, { clientX: x, clientY: y }));
    send("pointerdown", 30, 10);
    for (const [x, y] of [[120, 10], [120, 90], [30, 90]]) send("pointermove", x, y);
    send("pointerup", 30, 90);
    plot.filter([1]);
    send("pointerdown", 101, 51); // a click beside a cell
    send("pointerup", 101, 51);
    box.remove();
    return [selected, colours.map(([red, , blue, alpha]) => (alpha ? (red > blue ? "red" : "blue") : ""))];
}"""


def test_many_cells_are_drawn_by_density_and_selected(page):
    selected, colours = page.evaluate(DENSITY)
    assert selected == [[0, 1], [1]]
    assert colours == ["red", "blue", "blue", ""]


def test_cells_are_labelled_by_key_in_two_windows_and_undone(pages):
    one, other = pages
    one.keyboard.press("i")
    one.wait_for_selector("#cell-id")
    row = one.url.split("cell=")[1].split("&")[0]
    before = one.inner_text("#panel .facts tr:nth-child(2) td")
    one.keyboard.press("1")
    until(one, "Saved: label of 1 cell")
    one.keyboard.press("f")
    until(one, "Saved: flag of 1 cell")
    one.goto(one.url)
    one.reload()
    one.wait_for_selector("#cell-id")
    until(one, "flagged", "#panel")
    assert one.inner_text("#panel .facts tr:nth-child(2) td") == "blast"
    other.keyboard.press("a")  # all cells
    other.wait_for_function(
        "row => document.querySelector(`.tile[data-row='${row}']`)?.textContent.includes('⚑')", arg=row
    )
    other.keyboard.press("2")
    until(other, "Saved: label of 16 cells")
    until(one, HOSTILE, "#panel .facts tr:nth-child(2) td")  # what the other window wrote
    for _ in range(3):
        other.keyboard.press("u")
        until(other, "Undone")
        other.evaluate("document.querySelector('#status').textContent = ''")
    other.keyboard.press("u")
    until(other, "Not undone: ")
    until(one, before, "#panel .facts tr:nth-child(2) td")


def test_pictures_are_sent(page):
    page.click("#tab-upload")
    rgb = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG")
    for content, said in (
        (file.getvalue()[:900], "the picture cannot be read"),
        (f"<svg xmlns='http://www.w3.org/2000/svg' onload='{HOSTILE}'/>".encode(), "the picture cannot be read"),
        (file.getvalue(), f"{HOSTILE}.png: 2 cells"),
    ):
        page.set_input_files("#file", {"name": f"{HOSTILE}.png", "mimeType": "image/png", "buffer": content})
        until(page, said)
    assert HOSTILE in page.inner_text("#sent")
    page.click(".sent rect >> nth=1")
    until(page, "Cell 2 of 2", "#panel")
    assert HOSTILE in page.inner_text("#panel .facts")
    page.wait_for_function("[...document.querySelectorAll('#panel img')].every((one) => one.naturalWidth > 0)")
    page.click("#panel .tile")  # a cell of the store that is near
    page.wait_for_selector("#cell-id")
