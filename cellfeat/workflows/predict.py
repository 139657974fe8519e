"""Pictures that are in no store: the cells in them, what a fitted network calls them, and where it looks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cellfeat.core.files import atomic_path, slug, write_text
from cellfeat.core.spreadsheet import csv_text
from cellfeat.data.dataset import Dataset
from cellfeat.data.paths import open_paths
from cellfeat.detection.checkpoint_config import config_of_checkpoint
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.neighbours import Neighbours
from cellfeat.methods import folder as folders
from cellfeat.methods.classifier import kept_features, outputs
from cellfeat.reporting.heat_maps import look, overlay
from cellfeat.store import Store
from cellfeat.store.fields import whole_table
from cellfeat.store.margin import margin_of
from cellfeat.workflows.dump import dump
from cellfeat.workflows.dump_config import DumpConfig

log = logging.getLogger(__name__)

Picture = str | Path | np.ndarray
NEIGHBOURS = 6
COLUMNS = ["cell_id", "image_id", "domain", "score", "x0", "y0", "x1", "y1"]


@dataclass(frozen=True)
class Prediction:
    """The n cells of some pictures, the pictures in order, the surest cell of each first.

    Attributes:
        table: One row a cell: cell_id, image_id, domain, score, x0, y0, x1, y1 (XYXY, px of the picture), predicted,
            probability.
        classes: The k classes that the method knows.
        probabilities: (n, k) float32.
        crops: (n, S, S, 3) uint8 RGB; None: not asked for.
        masks: (n, S, S) uint8 0/1, in the crops' frame; None: not asked for.
        heat_maps: (n, h, w) float32 in [0, 1], where the network looks, in the crops' frame; None: not asked for.
        neighbours: (n, m) int64, rows of the nearest cells of the reference, by what the network's last layer sees,
            the nearest first; None without a reference.
        distances: (n, m) float32, how far these are (Euclidean); None without a reference.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    probabilities: np.ndarray
    crops: np.ndarray | None
    masks: np.ndarray | None
    heat_maps: np.ndarray | None
    neighbours: np.ndarray | None
    distances: np.ndarray | None

    def overlay(self, k: int) -> np.ndarray:
        """The crop of cell `k` under its heat map, (S, S, 3) uint8 RGB.

        Raises:
            CellfeatError: Heat maps were not asked for.
        """
        if self.crops is None or self.heat_maps is None:
            raise CellfeatError("heat maps: were not asked for", "predict with heat_maps=True")
        return overlay(self.crops[k], self.heat_maps[k])


def predict(
    images: Picture | Sequence[Picture],
    method_folder: str | Path,
    weights: str | Path | None = None,
    *,
    reference: Store | None = None,
    domain: str | None = None,
    heat_maps: bool = True,
    output: str | Path | None = None,
    config_file: str | Path | None = None,
    engine: str = "auto",
    settings: DumpConfig | None = None,
) -> Prediction:
    """Find the cells of pictures and name them by a fitted network.

    A detector finds the cells, as in `dump`; a method that was fitted on a store names them.

    Args:
        images: Picture files, folders and globs, as `cellfeat dump` takes them; or arrays (h, w, 3) uint8 RGB.
        method_folder: Where `mdd`, `resnext` or `finetune:<model>` was fitted; of a comparison: methods/.../fit.
        weights: The detector's checkpoint; None: what the config names.
        reference: The store that the method was fitted on, for the nearest cells in it. What the network sees of its
            cells is computed once and kept in `method_folder`. Crops are cut as those of the reference.
        domain: The laboratory that the pictures are of. Needed for `mdd`, which knows the stains of some.
        heat_maps: Say where the network looks, which takes about as long again as naming.
        output: Keep the cells as a store in this folder; None: nothing is kept.
        config_file, engine: Of the detector, as of `cellfeat dump`.
        settings: What to keep of each picture; None: all cells from a score of 0.3.

    Raises:
        CellfeatError: No picture can be read, `method_folder` holds no such method, or it does not know the domain.
        MissingRequirement: The detector's weights, or pytorch-grad-cam (the extra `explain`) for heat maps.
    """
    _method(Path(method_folder), reference)  # what may be refused comes first
    overrides = ["MODEL.WEIGHTS", str(weights)] if weights else []
    cfg = config_of_checkpoint(config_file, overrides)
    with TemporaryDirectory(prefix="cellfeat-") as scratch:
        datasets = _datasets(images, Path(scratch) / "pictures", domain)
        target = Path(output) if output else Path(scratch) / "store"
        store = dump(cfg, datasets, target, settings or _as_cut(reference), engine)
        return predict_store(store, method_folder, reference, heat_maps, crops=True)


def predict_store(
    store: Store,
    method_folder: str | Path,
    reference: Store | None = None,
    heat_maps: bool = False,
    crops: bool = False,
) -> Prediction:
    """Name all cells of a store by a fitted network, see `predict`; the store need not be the one of the fit.

    Args:
        crops: Also read the crops and masks, which of a large store take much memory; heat maps need them.

    Raises:
        CellfeatError: `method_folder` holds no such method, or it does not know a domain of the store.
    """
    folder = Path(method_folder)
    method = _method(folder, reference)
    network, classes, dataset = method.load(store, folder)
    known = dataset.normalisation.number
    if unknown := set(store.table()["domain"]) - set(known):
        raise CellfeatError(
            f"{folder}: {method.name} was not fitted for the domain {min(unknown)!r}",
            f"say which of these the pictures are of: {', '.join(sorted(known))}",
        )
    rows, maps = np.arange(len(store)), None
    if heat_maps and len(store):
        probabilities, drawn = look(network, dataset, rows)
        maps = np.stack(drawn)
    else:
        probabilities = (
            outputs(network, dataset, rows).softmax(1).numpy()
            if len(store)
            else np.empty((0, len(classes)), np.float32)
        )
    table = whole_table(store.table(), store.images())[COLUMNS]
    table = table.assign(
        predicted=np.array(classes)[probabilities.argmax(axis=1)], probability=probabilities.max(axis=1)
    )
    neighbours = distances = None
    if reference is not None and len(store):
        known_rows, z = kept_features(method, reference, folder)
        among = Neighbours(z)
        found = [among.nearest(one, NEIGHBOURS) for one in outputs(network, dataset, rows, network.features).numpy()]
        neighbours, distances = known_rows[np.stack([near for near, _ in found])], np.stack([far for _, far in found])
    read = {name: store.read(name, rows) if crops or heat_maps else None for name in ("crops", "masks")}
    return Prediction(table, classes, probabilities, read["crops"], read["masks"], maps, neighbours, distances)


def write_prediction(
    found: Prediction, output: Path, reference: Store | None = None, pictures: Path | None = None
) -> None:
    """Write the table with a column a class and, where there is a reference, the ids of the nearest cells.

    Args:
        output: The table.
        pictures: Folder for each cell beside its heat map, a PNG a cell.
    """
    table = pd.concat([found.table, pd.DataFrame(found.probabilities, columns=list(found.classes))], axis=1).round(4)
    if found.neighbours is not None and reference is not None:
        names = reference.table()["cell_id"].to_numpy(str)[found.neighbours]
        for k in range(names.shape[1]):
            table[f"nearest_{k + 1}"] = names[:, k]
    write_text(output, csv_text(table))
    if pictures is not None and found.crops is not None:
        for k, crop in enumerate(found.crops):
            name = slug(f"{k:05d}_{found.table['predicted'].iloc[k]}") + ".png"
            with atomic_path(pictures / name) as partial:
                Image.fromarray(np.concatenate([crop, found.overlay(k)], axis=1)).save(partial, "PNG")


def _method(folder: Path, reference: Store | None) -> Any:
    """The method that was fitted in a folder; one that names cells of any store."""
    method = folders.reopen(folder, reference)
    if not hasattr(method, "load"):
        what = f"{folder}: {method.name} cannot name cells of other stores"
        raise CellfeatError(what, "give a folder of mdd, resnext or finetune:<model>")
    return method


def _as_cut(reference: Store | None) -> DumpConfig:
    """All cells, with crops as those that the network learned from."""
    chosen: dict[str, Any] = {"select": "all"}
    if reference is not None:
        margin = margin_of(reference, "give `settings`")
        chosen |= {"crop_size": reference.layout.crop_size, "crop_margin": margin}
    return DumpConfig(**chosen)


def _datasets(images: Picture | Sequence[Picture], folder: Path, domain: str | None) -> list[Dataset]:
    """The datasets that pictures are; arrays become files in `folder`."""
    given = [images] if isinstance(images, (str, Path, np.ndarray)) else list(images)
    paths = []
    for number, picture in enumerate(given):
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
                raise CellfeatError(
                    f"picture {number}: {picture.shape} {picture.dtype}", "give (h, w, 3) uint8, RGB, or a file"
                )
            path = folder / f"{number:04d}.png"
            folder.mkdir(exist_ok=True)
            Image.fromarray(picture).save(path, compress_level=1)
            paths.append(str(path))
        else:
            paths.append(str(picture))
    if not paths:
        raise CellfeatError("no pictures", "give files, folders or arrays")
    datasets = open_paths(paths)
    if domain is None:
        return datasets
    return [
        Dataset(one.spec.model_copy(update={"domain": domain}), one.folder, one.split, one.chosen) for one in datasets
    ]
