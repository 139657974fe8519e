"""How quick the page of a large store is: seconds in a real browser, and the memory of the server.

    python benchmarks/view.py                         # 65,693 cells: the paper's three laboratories
    python benchmarks/view.py --repeat 15             # the same cells 15 times, a million in all: what the page does
    python benchmarks/view.py --picture docs          # also saves pictures of the page into a folder

The cells are drawn; two embeddings and the predictions of a classifier lie beside them. Chromium draws by software, as
on a machine without a GPU. Measured are, each from the user's action to the last picture that it brings:

    server   until the link is printed, and the resident memory at the end
    ready    the page is loaded, and the first map and the first crops are drawn
    lasso    a lasso around 20,000 cells, in two linked maps, until the gallery shows them
    card     a cell is opened, with its crop, predictions and neighbours by both embeddings
    label    a label for 20,000 cells is saved

On a busy machine the processors' time tells more than the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

LASSO = 20_000  # cells in the left half of the first map
DIMENSIONS = {"aecfe": 50, "wbc-ssl": 289}
SIDE, DRAWN = 128, 300  # px of a crop; different pictures
CLASSES = ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil", "blast")
DOMAINS = ("north", "south", "east")
PER_IMAGE = 5
GAP = "gap.json"  # where it lies in the first map, in its square from -1 to 1
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def write_store(folder: Path, cells: int) -> None:
    """A store of drawn cells, with embeddings whose maps are kept, and predictions."""
    from cellfeat.core.files import write_json
    from cellfeat.store import CellRow, ImageResult, Store, StoreWriter, write_embeddings, write_predictions
    from cellfeat.store.cell_matrix import write_matrix
    from cellfeat.view import maps

    rng = np.random.default_rng(0)
    drawn = [draw(CLASSES[k % len(CLASSES)], rng) for k in range(DRAWN)]
    with StoreWriter(folder, (2, 1, 1), SIDE, {"made_by": "benchmarks/view.py"}) as writer:
        for start in range(0, cells, PER_IMAGE):
            domain = DOMAINS[start // PER_IMAGE % len(DOMAINS)]
            rows = []
            for k in range(start, min(start + PER_IMAGE, cells)):
                crop, mask = drawn[k % DRAWN]
                x, y = 60 + 110 * (k - start), rng.uniform(40, 360)
                box = np.float32([x, y, x + rng.uniform(50, 90), y + rng.uniform(50, 90)])
                rows.append(
                    CellRow(np.ones((2, 1, 1)), crop, mask, box, rng.uniform(0.5, 1), CLASSES[k % len(CLASSES)])
                )
            patient = {"group": f"patient {start // 500}", "stain": ["Wright", "May-Grünwald"][start % 2]}
            writer.add(ImageResult(f"{domain}/{start:07d}.png", domain, "", 640, 480, cells=rows, metadata=patient))
    store = Store(folder)
    table = store.table()
    names, label = table["cell_id"].to_numpy(str), table["label"].to_numpy(str)
    numbers = np.array([CLASSES.index(one) for one in label])
    for method, d in DIMENSIONS.items():
        attributes = {"method": method, "config": "{}", "store_digest": store.digest}
        path = folder / "embeddings" / f"{method}.h5"
        centres = rng.normal(size=(len(CLASSES), d))
        write_embeddings(path, names, centres[numbers] + rng.normal(0, 0.5, (len(names), d)), attributes)
        points = rng.normal(0, 0.25, (len(names), 2)) + rng.uniform(-2, 2, (len(CLASSES), 2))[numbers]
        if method == "aecfe":  # a gap divides the cells that the lasso takes from the others
            order, taken = np.argsort(points[:, 0], kind="stable"), min(LASSO, len(names) // 2)
            points[order[taken:], 0] += 1
            write_json(folder / GAP, float(maps.in_square(points)[order[taken - 1 : taken + 1], 0].mean()))
        told = {**attributes, "config": json.dumps(maps.config_of(path))}
        write_matrix(maps.kept_at(path), maps.KIND, names, points, (), told)
    votes = rng.uniform(0, 1, (len(names), len(CLASSES))) + 2 * np.eye(len(CLASSES))[numbers]
    write_predictions(folder / "predicted.h5", names, CLASSES, votes / votes.sum(1, keepdims=True), attributes)


def draw(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A crop (128, 128, 3) uint8 and a mask (128, 128) uint8 of a cell that looks a little like one of its class."""
    from PIL import Image, ImageDraw, ImageFilter

    picture, mask = Image.new("RGB", (SIDE, SIDE), (236, 226, 224)), Image.new("L", (SIDE, SIDE))
    pen, body = ImageDraw.Draw(picture), ImageDraw.Draw(mask)
    for _ in range(3):  # red cells
        x, y = rng.uniform(-30, SIDE, 2)
        pen.ellipse((x, y, x + 60, y + 60), (222, 186, 178))
    centre, radius = rng.uniform(60, 68, 2), rng.uniform(36, 50)
    box = (*(centre - radius), *(centre + radius))
    colours = {"eosinophil": (226, 160, 140), "basophil": (140, 120, 190), "blast": (150, 160, 215)}
    pen.ellipse(box, colours.get(name, (196, 190, 222)))
    body.ellipse(box, 1)
    lobes = {"neutrophil": 4, "eosinophil": 2, "basophil": 2, "monocyte": 2}.get(name, 1)
    for lobe in range(lobes):
        turn = 2 * np.pi * lobe / lobes + rng.uniform(0, 1)
        at = centre + (lobes > 1) * 0.45 * radius * np.array([np.cos(turn), np.sin(turn)])
        size = radius * (0.8 if lobes == 1 else 0.42 if lobes > 2 else 0.55)
        pen.ellipse((*(at - size), *(at + size)), (92, 56, 132))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(1.2))), np.asarray(mask)


def resident(pid: int) -> float:
    """Resident memory of a process in MB (Linux)."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1000


def processor_time(server: int) -> float:
    """Seconds of processor time that the server and all of Chromium have taken (Linux)."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has just ended
            continue
        if name.startswith("chrom") or stat.parent.name == str(server):
            ticks += sum(map(int, rest.split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def serve_repeated(folder: Path, times: int) -> None:
    """Serve the cells of a store several times over, each time at places of their own on the maps."""
    from dataclasses import replace

    from cellfeat.store import Store
    from cellfeat.view import serve
    from cellfeat.view.data import Cells

    class Repeated(Cells):
        times = 1

        def __init__(self) -> None:
            super().__init__(Store(folder), sorted((folder / "embeddings").glob("*.h5")), [folder / "predicted.h5"])
            self.times, rng = times, np.random.default_rng(0)
            self.columns = [replace(one, values=np.tile(one.values, times)) for one in self.columns]
            self.maps = [
                replace(one, points=np.tile(one.points, (times, 1)) + rng.normal(0, 0.005, (len(self), 2)).astype("f4"))
                for one in self.maps
            ]

        def __len__(self) -> int:
            return self.times * len(self.table)

        def sheet(self, rows, outline: bool) -> bytes:
            return super().sheet([row % len(self.table) for row in rows], outline)

        def crop(self, row: int, outline: bool) -> bytes:
            return super().crop(row % len(self.table), outline)

        def card(self, row: int):
            return super().card(row % len(self.table)) | {"cell_id": f"cell {row}"}

    serve.serve(Repeated(), "127.0.0.1", 0, "", lambda access: print(access.link, flush=True))


def measure(folder: Path, pictures: Path | None, repeat: int) -> dict[str, tuple[float, ...]]:
    """Seconds of each action, by the clock and of processors; the server's memory in MB."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "cellfeat", "view", str(folder), "--annotate", "--log", str(folder / "log.jsonl")]
    (folder / "log.jsonl").unlink(missing_ok=True)
    start = time.monotonic()
    command = [*command, "--predictions", str(folder / "predicted.h5")]
    if repeat > 1:
        command = [sys.executable, __file__, "--folder", str(folder), "--repeat", str(repeat), "--serve"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert server.stdout is not None
    found: dict[str, tuple[float, ...]] = {}
    try:
        link = next(line.strip() for line in server.stdout if re.match(r"http://", line))
        found["server"] = time.monotonic() - start, processor_time(server.pid)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(300_000)
            found |= act(page, server.pid, link, json.loads((folder / GAP).read_text()), pictures)
            browser.close()
        found["memory"] = (resident(server.pid),)
    finally:
        server.terminate()
        server.wait(30)
    return found


LOADED = """() => [...document.querySelectorAll('#panel img')].every((one) => one.complete)
&& [...document.querySelectorAll('#panel .tiles')].every((one) => one.dataset.loaded === 'true')"""


def act(page, server: int, link: str, gap: float, pictures: Path | None) -> dict[str, tuple[float, ...]]:
    """Do what a user does, and measure it."""
    found: dict[str, tuple[float, ...]] = {}

    def timed(name: str, action, then: str) -> None:
        start, before = time.monotonic(), processor_time(server)
        action()
        page.wait_for_function(then)
        page.wait_for_function(LOADED)
        found[name] = time.monotonic() - start, processor_time(server) - before
        if pictures:
            page.screenshot(path=str(pictures / f"view-{name}.png"))

    timed("ready", lambda: page.goto(link), "document.body.dataset.ready === 'true'")
    page.select_option("#map-b", "1")
    page.wait_for_timeout(3000)
    page.keyboard.press("l")
    box = page.locator("#plot-a canvas").first.bounding_box()
    shown = max(1, box["width"] / box["height"])  # the map lies in a square of half this width
    left, right = box["x"] + 2, box["x"] + box["width"] / 2 * (1 + gap / shown)
    top, low = box["y"] + 2, box["y"] + box["height"] - 2
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, low), (left, low), (left, top + 9)):
        page.mouse.move(x, y, steps=8)
        page.wait_for_timeout(60)
    timed("lasso", page.mouse.up, "!document.querySelector('#shown').textContent.endsWith(' 0 selected')")
    print(page.inner_text("#shown"))
    if page.is_visible("#annotate"):
        saved = "document.querySelector('#status').textContent.startsWith('Saved')"
        timed("label", lambda: page.select_option("#as", "3"), saved)
    page.click("#panel .tile")
    page.wait_for_selector("#cell-id")
    for name in ("first card", "card"):
        before = page.inner_text("#cell-id")
        timed(
            name,
            lambda: page.keyboard.press("ArrowRight"),
            f"document.querySelector('#cell-id').textContent !== {json.dumps(before)}",
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=65_693)
    parser.add_argument("--folder", type=Path, default=None, help="kept, and used again; default: view-benchmark-CELLS")
    parser.add_argument("--picture", type=Path, default=None, help="folder for pictures of the page")
    parser.add_argument("--repeat", type=int, default=1, help="show the cells so many times")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    folder = chosen.folder or Path(f"view-benchmark-{chosen.cells}")
    if chosen.serve:
        return serve_repeated(folder, chosen.repeat)
    if not (folder / "predicted.h5").is_file():
        write_store(folder, chosen.cells)
    print(f"{'':12} {'clock':>8} {'processors':>11}")
    for name, (value, *processors) in measure(folder, chosen.picture, chosen.repeat).items():
        print(f"{name:12} {value:8.2f} {f'{processors[0]:11.2f} s' if processors else 'MB'}")


if __name__ == "__main__":
    main()
