"""Files from the network: downloaded once into a cache, whole, and only with the digest that is expected."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from cellfeat.core.files import atomic_path, sha256_file
from cellfeat.core.progress import Progress
from cellfeat.errors import CellfeatError, MissingWeights

log = logging.getLogger(__name__)

TIMEOUT = 30  # s without an answer
OFFLINE = "CELLFEAT_OFFLINE"


def cache_folder() -> Path:
    """Where downloads are kept: `$CELLFEAT_CACHE`, or the system's folder for caches."""
    import pooch

    return Path(os.environ.get("CELLFEAT_CACHE") or pooch.os_cache("cellfeat"))


def fetch(url: str, sha256: str, folder: Path | None = None, mirror: str | None = None) -> Path:
    """A file in a folder, downloaded unless it is there.

    Args:
        url: Its address; the last part is the file's name.
        sha256: Its hex digest, or the beginning of it, eight digits or more, where no more is published.
        folder: Where it is kept; default `cache_folder()`.
        mirror: A folder or an address under which the file lies by its name, asked first; default `$CELLFEAT_MIRROR`.

    Raises:
        MissingWeights: It is not there and cannot be downloaded, or `$CELLFEAT_OFFLINE` forbids that.
        CellfeatError: The file has another digest.
    """
    name = url.rpartition("/")[2]
    path = (folder or cache_folder()) / name
    if path.is_file():
        check_digest(path, sha256, str(path))
        return path
    mirror = os.environ.get("CELLFEAT_MIRROR", "") if mirror is None else mirror
    if mirror and Path(mirror).is_dir():
        source = Path(mirror) / name
        if not source.is_file():
            raise MissingWeights(f"{source}: no such file", f"put {url} there", "weights")
        _get(source, path, sha256)
    else:
        _get(f"{mirror.rstrip('/')}/{name}" if mirror else url, path, sha256)
    return path


def check_digest(path: Path, sha256: str, what: str) -> None:
    """Refuse a file with another digest.

    Raises:
        CellfeatError: It has another.
    """
    found = sha256_file(path)
    if len(sha256) < 8 or not found.startswith(sha256.lower()):
        raise CellfeatError(f"{what}: its sha256 is {found}, not {sha256}", "remove the file and download it again")


def _get(source: str | Path, path: Path, sha256: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        if isinstance(source, Path):
            shutil.copyfile(source, partial)
        else:
            _download(source, partial)
            log.info("%s: downloaded to %s", source, path)
        check_digest(partial, sha256, str(source))


def _download(url: str, target: Path) -> None:
    if os.environ.get(OFFLINE, "") not in ("", "0"):
        raise MissingWeights(f"{url}: {OFFLINE} forbids downloads", _by_hand(url), "weights")
    import pooch

    with Progress(total=0, desc=url.rpartition("/")[2], unit="B", unit_scale=True) as bar:
        try:
            pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=bar)(url, str(target), None)
        except OSError as error:  # no network, no such file, a connection that broke; requests' errors are OSErrors too
            reason = " ".join(str(error).split())
            raise MissingWeights(f"{url}: cannot be downloaded ({reason[:200]})", _by_hand(url), "weights") from None


def _by_hand(url: str) -> str:
    return f"download it elsewhere into {cache_folder()} or into the folder that CELLFEAT_MIRROR names"
