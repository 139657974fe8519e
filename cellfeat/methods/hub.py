"""ImageNet weights from torchvision's hub, for methods that are asked for `pretrained` ones.

The addresses are torchvision's own, and a file's name ends in the first eight digits of its sha256, which it must have.
Files lie in the hub's cache ($TORCH_HOME/hub/checkpoints) and are downloaded once.
"""

from __future__ import annotations

import logging
import re
import urllib.error
import urllib.request
from pathlib import Path

import torch
from torchvision.models import get_model_weights, list_models
from tqdm import tqdm

from cellfeat.core.files import atomic_path, sha256_file
from cellfeat.errors import CellfeatError, MissingWeights

log = logging.getLogger(__name__)

ENTRY = "IMAGENET1K_V1"  # the classic recipe, which every network has; V2 came after the publications' baselines
TIMEOUT = 30  # s without an answer
BLOCK = 1 << 20  # bytes at a time


def hub_url(model: str) -> str:
    """Where torchvision has the ImageNet weights of one of its networks.

    Raises:
        CellfeatError: There is no such network, or it has no such weights.
    """
    if model not in list_models(module=None):
        raise CellfeatError(f"model {model!r}: torchvision has none of this name; see torchvision.models.list_models()")
    known = {entry.name: entry.url for entry in get_model_weights(model)}
    if ENTRY not in known:
        raise CellfeatError(f"{model}: torchvision has no {ENTRY} weights of it", "give a file as `weights`")
    return known[ENTRY]


def local_weights(model: str, weights: str | None, pretrained: bool) -> str | None:
    """The file to start from: the one that is named, or the hub's, or None.

    Raises:
        MissingWeights: The hub cannot be reached.
        CellfeatError: See `hub_url` and `download`.
    """
    if weights is not None or not pretrained:
        return weights
    return str(download(hub_url(model), Path(torch.hub.get_dir()) / "checkpoints"))


def download(url: str, folder: Path) -> Path:
    """A file of the hub in a folder, downloaded unless it is there; it has the digest that its name ends in.

    Raises:
        MissingWeights: The address cannot be reached.
        CellfeatError: The address names no digest, or the file has another.
    """
    name = url.rpartition("/")[2]
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    if match is None:
        raise CellfeatError(f"{url}: its name ends in no digest, so it cannot be checked", "give a file as `weights`")
    path = folder / name
    if not path.is_file():
        log.info("%s: downloaded to %s", url, path)
        with atomic_path(path) as partial:
            _fetch(url, partial)
            _check(partial, match[1], url)
    _check(path, match[1], str(path))
    return path


def _fetch(url: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, open(target, "wb") as file:
            size = int(answer.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, desc=url.rpartition("/")[2], unit="B", unit_scale=True) as progress:
                while block := answer.read(BLOCK):
                    file.write(block)
                    progress.update(len(block))
    except (OSError, urllib.error.URLError) as error:  # no network, no such file, a connection that broke
        reason = getattr(error, "reason", error)
        remedy = "download it elsewhere and give the file as `weights`"
        raise MissingWeights(f"{url}: cannot be downloaded ({reason})", remedy, "weights") from None


def _check(path: Path, digest: str, what: str) -> None:
    found = sha256_file(path)
    if not found.startswith(digest):
        raise CellfeatError(f"{what}: its sha256 is {found}, not {digest}…", "remove the file and download it again")
