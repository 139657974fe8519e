"""The web application of `cellfeat view`: a page, and small answers about the cells of one store.

No part of a request names a file: the page's own files are read when the server starts, cells are numbers of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from cellfeat.errors import CellfeatError
from cellfeat.view.annotations import MAX_CELLS, MAX_NOTE, AnnotationLog, Kind, Said
from cellfeat.view.data import Cells
from cellfeat.view.security import MAX_BODY, UPLOAD, Access, Guard
from cellfeat.view.uploads import MAX_BYTES, Uploads

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}
SCRIPTS = ("app", "state", "dom", "plots", "density", "legend", "gallery", "card", "crosstab", "annotate", "upload")
PAGE = (
    *("index.html", "style.css", "icon.svg", "vendor/regl-scatterplot.js", "vendor/LICENSES.txt"),
    *(f"{name}.js" for name in SCRIPTS),
)
KEPT = {"cache-control": "private, max-age=3600"}  # of what does not change while the server runs
FRESH = {"cache-control": "no-store"}

Row = Annotated[int, Path(ge=0, le=(1 << 31))]
Rows = Annotated[str, Query(pattern=r"^\d{1,9}(,\d{1,9}){0,63}$")]
UploadName = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]


class Save(BaseModel):
    """What the page sends to be kept: one value for these rows."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rows: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=MAX_CELLS)
    kind: Kind
    new: bool | Annotated[str, Field(max_length=MAX_NOTE)]


def application(
    cells: Cells, access: Access, log: AnnotationLog | None = None, user: str = "", uploads: Uploads | None = None
) -> Guard:
    """The ASGI application that shows a store to those whom `access` lets in.

    Args:
        cells: What is shown.
        access: Who is let in.
        log: Where labels, flags and notes are kept; None: nothing can be written.
        user: Who writes, where the browser names nobody.
        uploads: What names the cells of pictures that are sent; None: none can be sent.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(CellfeatError, _told)
    _serve_page(app)
    _serve_cells(app, cells, {"annotate": log is not None, "upload": uploads is not None})
    if log is not None:
        _serve_log(app, cells, log, user)
    if uploads is not None:
        _serve_uploads(app, uploads)
    return Guard(app, access, MAX_BYTES if uploads is not None else MAX_BODY)


async def _told(request: Any, error: Exception) -> Response:
    """An error that a user is meant to read, as text."""
    return JSONResponse({"detail": str(error)}, 409, FRESH)


def _serve_page(app: FastAPI) -> None:
    root = files("cellfeat.view") / "static"
    for name in PAGE:
        kind = f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"
        path = "/" if name == "index.html" else f"/static/{name}"
        app.add_api_route(path, _constant((root / name).read_bytes(), kind), methods=["GET"])


def _constant(content: bytes, kind: str) -> Any:
    def answer() -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return answer


def _serve_cells(app: FastAPI, cells: Cells, able: dict[str, bool]) -> None:
    description = cells.describe() | able

    def found(row: int) -> int:
        if row >= len(cells):
            raise HTTPException(404, f"there is no cell {row}, the store has {len(cells)}")
        return row

    def network(number: int) -> int:
        if number >= len(description["fitted"]):
            raise HTTPException(404, f"there is no fitted network {number}")
        return number

    @app.get("/api/store")
    def store() -> Response:
        return JSONResponse(description, headers=FRESH)

    @app.get("/api/column/{number}")
    def column(number: Row) -> Response:
        """Values of a column: int32 codes or float32, little endian."""
        if number >= len(cells.columns):
            raise HTTPException(404, f"there is no column {number}")
        return _binary(cells.columns[number].values)

    @app.get("/api/map/{number}")
    def points(number: Row) -> Response:
        """Points of a map: float32 little endian, all x, then all y."""
        if number >= len(cells.maps):
            raise HTTPException(404, f"there is no map {number}")
        return _binary(cells.maps[number].points.T)

    @app.get("/api/cell/{row}")
    def cell(row: Row) -> Response:
        return JSONResponse(cells.card(found(row)), headers=KEPT)

    @app.get("/api/heat/{number}/{row}")
    def heat(number: Row, row: Row) -> Response:
        return JSONResponse(cells.heat(network(number), found(row))["classes"], headers=KEPT)

    @app.get("/api/heat/{number}/{row}/picture")
    def heat_picture(number: Row, row: Row) -> Response:
        picture = cells.heat(network(number), found(row))["picture"]
        return Response(picture, media_type="image/png", headers=KEPT)

    @app.get("/api/crops")
    def crops(rows: Rows, outline: bool = False) -> Response:
        """The crops of several cells side by side."""
        numbers = [found(int(row)) for row in rows.split(",")]
        return Response(cells.sheet(numbers, outline), media_type="image/jpeg", headers=KEPT)

    @app.get("/api/crop/{row}")
    def crop(row: Row, outline: bool = False) -> Response:
        return Response(cells.crop(found(row), outline), media_type="image/png", headers=KEPT)


def _serve_log(app: FastAPI, cells: Cells, log: AnnotationLog, owner: str) -> None:
    cell_id = cells.table["cell_id"].to_numpy(str)
    label = cells.table["label"].to_numpy(str)
    row_of = {cell: row for row, cell in enumerate(cell_id.tolist())}

    def user(request: Request) -> str:
        return request.scope["cellfeat_user"] or owner

    def told(said: Said, request: Request, known: int = -1) -> Response:
        if known == len(said.lines):  # most looks find nothing new
            return JSONResponse({"lines": known, "user": user(request)}, headers=FRESH)
        values = {
            kind: {row_of[cell]: value for cell, value in of.items() if cell in row_of}
            for kind, of in said.values.items()
        }
        return JSONResponse({"lines": len(said.lines), "user": user(request), **values}, headers=FRESH)

    @app.get("/api/annotations")
    def annotations(request: Request, known: int = -1) -> Response:
        """What the log says; only how long it is, where that is what the page knows."""
        return told(log.read(), request, known)

    @app.post("/api/annotations")
    def save(request: Request, change: Save) -> Response:
        if max(change.rows) >= len(cells):
            raise HTTPException(404, f"there is no cell {max(change.rows)}, the store has {len(cells)}")
        ids, stored = cell_id[change.rows].tolist(), label[change.rows].tolist()
        return told(log.save(user(request), change.kind, ids, change.new, stored), request)

    @app.post("/api/undo")
    def undo(request: Request) -> Response:
        return told(log.undo(user(request)), request)


def _serve_uploads(app: FastAPI, uploads: Uploads) -> None:
    @app.post(UPLOAD)
    async def upload(request: Request) -> Response:
        """The cells of the picture file that is the body of the request."""
        told = await run_in_threadpool(uploads.add, await request.body())
        return JSONResponse(told, headers=FRESH)

    @app.get(UPLOAD + "/{name}")
    def picture(name: UploadName) -> Response:
        return _kept(lambda: uploads.picture(name), "image/jpeg")

    @app.get(UPLOAD + "/{name}/{number}")
    def cell(name: UploadName, number: Row, heat: bool = False) -> Response:
        return _kept(lambda: uploads.cell(name, number, heat), "image/png")


def _kept(make: Callable[[], bytes], kind: str) -> Response:
    try:
        return Response(make(), media_type=kind, headers=KEPT)
    except LookupError:
        raise HTTPException(404, "this picture is no longer there: send it again") from None


def _binary(values: np.ndarray) -> Response:
    content = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return Response(content, media_type="application/octet-stream", headers=KEPT)
