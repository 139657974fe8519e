"""Images by URL, through fsspec: `s3://bucket/smears`, `https://host/smears/`, `memory://smears`.

What a URL names gets a folder of this machine, in `CELLFEAT_CACHE`, with the names and the sizes of its files. Tables
and annotations are fetched at once, an image when it is first read. So whatever reads local folders reads URLs, and an
image that is not asked for is not fetched. The folder may be removed at any time. Where its images take more than
`CELLFEAT_URL_CACHE` GiB, those that were fetched first become stand-ins again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from threading import Lock
from typing import Any

from cellfeat.core.download import cache_folder
from cellfeat.core.files import as_written, atomic_path, digest, read_json, write_json
from cellfeat.data.listing import SUFFIXES
from cellfeat.errors import CellfeatError, MissingRequirement, one_line

FOLDER = "images-by-url"  # in the folder of caches
SOURCE = "source.json"  # beside a folder of images: where it comes from
BESIDE = frozenset(
    {".csv", ".tsv", ".txt", ".json", ".geojson", ".yaml", ".yml", ".xml", ".npy"}
)  # tables, annotations
AT_ONCE = 16  # files that are fetched side by side
PENDING = 0  # s since 1970: when a file was changed that has its size alone
LIMIT, GIB = "CELLFEAT_URL_CACHE", 20.0  # the variable, and what is kept without it
FRESH = 60  # s after it was fetched that an image stays in any case: who fetched it reads it first
SWEPT = 1 / 16  # of the limit: after as much was fetched, what is kept is counted


def is_url(written: str) -> bool:
    """Whether a path is written as a URL."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+(::|://)", written) is not None


def local_paths(url: str) -> list[Path]:
    """The stand-ins on this machine of the folder, the image or the images of a glob that a URL names.

    Raises:
        MissingRequirement: The package that knows such URLs is not installed.
        CellfeatError: Nothing of this name, or it cannot be reached.
    """
    magic = re.search(r"[*\[]", url)
    base = url[: magic.start()].rpartition("/")[0] if magic else url.rstrip("/")
    chosen = url[len(base) :].strip("/")  # a glob, or ""
    if not magic and Path(base).suffix.lower() in SUFFIXES:
        base, _, chosen = base.rpartition("/")
    folder = (cache_folder() / FOLDER / digest(base)[:16]).absolute() / (base.rpartition("/")[2] or "images")
    with _reached(url):
        sizes = _sizes(base)
        if not magic and chosen:
            sizes = {key: size for key, size in sizes.items() if key == chosen}
        if not sizes:
            raise CellfeatError(f"{url}: holds no image that is read", "correct the address")
        write_json(folder.parent / SOURCE, {"url": base})
        for key, size in sizes.items():
            _stand_in(folder / key, size)
    if not chosen:
        for file in [file for file in folder.rglob("*") if file.is_file()]:
            if file.relative_to(folder).as_posix() not in sizes:  # gone at its source
                file.unlink(missing_ok=True)
        return [folder]
    return sorted(folder.glob(chosen)) if magic else [folder / chosen]


def bring(path: str | Path) -> None:
    """Fetch the content of an image of a URL, unless it is here; nothing to do for other files.

    Raises:
        CellfeatError: It cannot be fetched; that is no fault of the image.
    """
    path = Path(path)
    if not is_pending(path):
        return
    place = path.parts.index(FOLDER) + 2
    source = Path(*path.parts[:place]) / SOURCE
    with as_written(source, "name the URL again"):
        url = f"{read_json(source)['url']}/{'/'.join(path.parts[place + 1 :])}"
    with _reached(url):
        _fetch(url, path)
    _make_room(path.stat().st_size)


def bring_all(paths: Iterable[Path]) -> None:
    """As `bring`, several at a time."""
    pending = [path for path in paths if is_pending(path)]
    if pending:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(bring, pending):
                pass


def is_pending(path: Path) -> bool:
    """Whether a file stands in for an image of a URL that is not here."""
    if FOLDER not in path.parts:
        return False
    try:
        return path.stat().st_mtime == PENDING
    except OSError:
        return False


def _limit() -> float:
    """Bytes of the images that are kept."""
    text = os.environ.get(LIMIT, "")
    try:
        limit = float(text or GIB) * 2**30
    except ValueError:
        limit = -1
    if not 0 <= limit < float("inf"):
        raise CellfeatError(f"{LIMIT}: {text!r} is no number of GiB", f"write a number such as {GIB:g}")
    return limit


_making_room = Lock()
_fetched = float("inf")  # bytes since the images that are kept were counted


def _make_room(fetched: int) -> None:
    """Count what was fetched; where that is much, make stand-ins of the images that were fetched first."""
    global _fetched
    limit = _limit()
    with _making_room:
        _fetched += fetched
        if _fetched < SWEPT * limit:
            return
        _fetched = 0
        kept = []
        for file in (cache_folder() / FOLDER).glob("*/*/**/*"):
            with suppress(OSError):
                stat = file.stat()
                if file.suffix.lower() in SUFFIXES and S_ISREG(stat.st_mode) and stat.st_mtime != PENDING:
                    kept.append((stat.st_mtime, stat.st_size, file))
        total, now = sum(size for _, size, _ in kept), time.time()
        for fetched_at, size, file in sorted(kept):
            if total <= limit or now - fetched_at < FRESH:
                break
            _empty(file, size)
            total -= size


def _stand_in(path: Path, size: int) -> None:
    """A file of this size whose content is still to come, or that of before where its size is the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() not in SUFFIXES:
        os.utime(path, (PENDING, PENDING)) if path.exists() else _empty(path, size)
        bring(path)
    elif not path.exists() or path.stat().st_size != size:
        _empty(path, size)


def _empty(path: Path, size: int) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with open(partial, "wb") as file:
        file.truncate(size)
    os.utime(partial, (PENDING, PENDING))
    os.replace(partial, path)


def _sizes(url: str) -> dict[str, int]:
    """The files below a URL that are used: path below it to bytes."""
    fs, root = _opened(url)
    root = root.rstrip("/") + "/" if "http" in fs.protocol else root
    found = fs.find(root, detail=True)
    if not found:
        fs.ls(root)  # says why, as finding does not
    keys = {name: name[len(root) :].strip("/") for name in found if name.startswith(root)}
    used = {name: key for name, key in keys.items() if _is_plain(key) and Path(key).suffix.lower() in SUFFIXES | BESIDE}
    unknown = [name for name in used if found[name].get("size") is None]  # the links of a web page
    sizes = dict(zip(unknown, fs.sizes(unknown))) if unknown else {}
    return {key: int(found[name].get("size") or sizes.get(name) or 0) for name, key in used.items()}


def _is_plain(key: str) -> bool:
    """Whether a name stays within its folder here."""
    return not any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in key.split("/"))


def _fetch(url: str, path: Path) -> None:
    fs, name = _opened(url)
    with atomic_path(path) as partial:
        fs.get_file(name, str(partial))


def _opened(url: str) -> tuple[Any, str]:
    import fsspec

    return fsspec.core.url_to_fs(url)


@contextmanager
def _reached(url: str) -> Iterator[None]:
    """Whatever a file system raises is one line that names the URL."""
    try:
        yield
    except CellfeatError:
        raise
    except FileNotFoundError:
        raise CellfeatError(f"{url}: no such folder or file", "correct the address") from None
    except ImportError as error:
        raise MissingRequirement(f"{url}: {one_line(error)}", "install that package", "package") from None
    except Exception as error:  # of its own kind for each file system
        words = (one_line(error) or type(error).__name__)[:200]
        raise CellfeatError(f"{url}: cannot be read ({words})", "see that it can be reached, and run again") from None
