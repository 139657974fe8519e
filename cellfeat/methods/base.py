"""What a method is, and the two functions that run one: fitted on train rows, its embeddings or predictions written.

A method is a frozen description (name and config); what it learns lies in a folder, never in the object. So the same
description on the same folder goes on where it was interrupted, and one that is complete is left alone.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import BaseModel

from cellfeat.core.files import digest, sha256_file
from cellfeat.data.cards import MODEL_CARD, ModelCard, datasets_of, write_model_card
from cellfeat.errors import MissingRequirement, MissingWeights
from cellfeat.store import write_embeddings, write_predictions

if TYPE_CHECKING:
    from cellfeat.store import Store

log = logging.getLogger(__name__)

Kind = Literal["embedding", "prediction"]


class Method(Protocol):
    """What both kinds have in common. A class of methods is built from its checked config: `cls(config)`.

    Attributes:
        Config: Its settings: frozen, extra="forbid", with a `seed` if and only if the method is random, and `weights`
            (a local path or None) where it starts from trained ones. A method that needs them may have a
            `weights_hint`: what to download.
        title: A few words for lists and reports.
        name: As in the registry; the stem of its files.
        kind: "embedding" or "prediction".
        needs: Of "labels", "masks" and "weights", those that it cannot do without (as configured).

    One whose config has a `seed` may have `draws` (bool): False where, as configured, nothing depends on the seed.

    One that starts from what another run learned may have `provenance(folder)`: attributes (a dict of texts) of the
    file that is written, in place of those of its config.
    """

    Config: ClassVar[type[BaseModel]]
    kind: ClassVar[Kind]
    title: ClassVar[str]

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> Any: ...

    @property
    def needs(self) -> frozenset[str]: ...


class EmbeddingMethod(Method, Protocol):
    """One vector a cell, made without labels unless it says otherwise."""

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Learn from the cells `rows` (store row numbers) and no others; what is learned goes into `folder`.

        Resumable; nothing to do for a method without training.
        """

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(len(store), d) float32: every row of the store, in its order."""


class DrawingMethod(EmbeddingMethod, Protocol):
    """An embedding method that can draw a cell from its embedding; the report shows it beside others."""

    def reconstruct(self, store: Store, rows: np.ndarray, folder: Path) -> np.ndarray:
        """(len(rows), S, S, 3) uint8 RGB, S as of the store's crops; a few dozen rows at most."""


class PredictionMethod(Method, Protocol):
    """A class a cell, learned from labels.

    Attributes:
        adapts: Whether it looks at the unlabelled cells of the domain that it will be tested on; if so it is fitted
            for each of them.
    """

    adapts: ClassVar[bool]

    def fit(self, store: Store, rows: np.ndarray, folder: Path, target_rows: np.ndarray) -> None:
        """Learn from the labelled cells `rows` and, without their labels, from `target_rows` (empty unless `adapts`).

        Resumable; what is learned goes into `folder`.
        """

    def predict(self, store: Store, rows: np.ndarray, folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
        """The k classes that were learned, and (len(rows), k) float32 probabilities in the order of `rows`."""


def draws(method: Method) -> bool:
    """Whether another seed may give another result."""
    return "seed" in type(method.config).model_fields and getattr(method, "draws", True)


def demand(method: Method, store: Store, rows: np.ndarray) -> None:
    """Refuse a method that lacks what it needs.

    Args:
        rows: The cells that it would learn from.

    Raises:
        MissingRequirement: `lacking` is "labels" or "masks".
        MissingWeights: Its weights are not named, or there is no such file.
    """
    weights = getattr(method.config, "weights", None)
    if "labels" in method.needs:
        known = set(store.table()["label"].to_numpy()[rows]) - {""}
        if len(known) < 2:
            reason = f"{len(known)} of the classes to learn from are known, two are needed"
            raise MissingRequirement(f"{method.name}: lacks labels: {reason}", lacking="labels")
    if "masks" in method.needs and not _has_masks(store, rows):
        reason = "every mask of the store is empty or full"
        raise MissingRequirement(f"{method.name}: lacks masks: {reason}", lacking="masks")
    if "weights" in method.needs and weights is None and not getattr(method.config, "pretrained", False):
        hint = getattr(method, "weights_hint", "give the path of the file in its config")
        raise MissingWeights(f"{method.name}: lacks weights: {hint}", lacking="weights")
    if weights is not None and not Path(weights).is_file():
        raise MissingWeights(f"{method.name}: lacks weights: {weights}: no such file", lacking="weights")


def embed_with(method: EmbeddingMethod, store: Store, rows: np.ndarray, folder: Path, output: str | Path) -> Path:
    """Fit a method on the cells `rows` and write the embeddings of every cell.

    Args:
        folder: What the method learns lies here.
        output: The file, by custom `embeddings/<method>.h5`.

    Returns:
        `output`.

    Raises:
        MissingRequirement: See `demand`.
    """
    demand(method, store, rows)
    method.fit(store, rows, folder)
    _write_card(method, store, rows, folder)
    return write_embedded(method, store, folder, output)


def write_embedded(method: EmbeddingMethod, store: Store, folder: Path, output: str | Path) -> Path:
    """Write the embeddings of every cell by a method that was fitted in `folder`; returns `output`."""
    z = method.embed(store, folder)
    write_embeddings(output, store.table()["cell_id"].to_numpy(), z, _attributes(method, store, folder))
    log.info("%s: %d cells, %d-d", output, *z.shape)
    return Path(output)


def predict_with(
    method: PredictionMethod,
    store: Store,
    rows: np.ndarray,
    target_rows: np.ndarray,
    test_rows: np.ndarray,
    folder: Path,
    output: str | Path,
) -> Path:
    """Fit a method on the labelled cells `rows` and write what it calls the cells `test_rows`.

    Args:
        target_rows: Cells that a method which adapts may see without their labels.
        folder: What the method learns lies here.
        output: The file, by custom `predictions/<method>.h5`.

    Returns:
        `output`.

    Raises:
        MissingRequirement: See `demand`.
    """
    demand(method, store, rows)
    method.fit(store, rows, folder, target_rows if method.adapts else target_rows[:0])
    _write_card(method, store, rows, folder)
    classes, probabilities = method.predict(store, test_rows, folder)
    cell_id = store.table()["cell_id"].to_numpy()[test_rows]
    write_predictions(output, cell_id, classes, probabilities, _attributes(method, store, folder))
    log.info("%s: %d cells, %d classes", output, *probabilities.shape)
    return Path(output)


def _attributes(method: Any, store: Store, folder: Path) -> dict[str, Any]:
    config = json.dumps(method.config.model_dump(mode="json"), sort_keys=True)
    further = method.provenance(folder) if hasattr(method, "provenance") else {}
    weights = [sha256_file(path) for path in _fitted(folder)]
    fitted = {"fitted_sha256": digest(weights) if weights else ""}  # which vectors can be compared
    return {"method": method.name, "config": config, "store_digest": store.digest} | fitted | further


def _fitted(folder: Path) -> list[Path]:
    """The weights that a method learned."""
    return sorted(folder.glob("*.safetensors"))


def _write_card(method: Any, store: Store, rows: np.ndarray, folder: Path) -> None:
    """MODEL_CARD.md beside what a method learned, unless it has one."""
    if not _fitted(folder) or (folder / MODEL_CARD).exists():
        return
    table = store.table().iloc[rows]
    facts = {"cells": len(rows), "domains": ", ".join(sorted(set(table["domain"]))), "store": store.digest}
    predicts = method.kind == "prediction"
    card = ModelCard(
        f"{method.title}: {method.name}",
        f"What `cellfeat` learned for its method `{method.name}`; docs/methods.md says what that is.",
        "image-classification" if predicts else "image-feature-extraction",
        datasets_of(store.provenance),
        method.config.model_dump(mode="json"),
        facts | ({"classes": ", ".join(sorted(set(table["label"])))} if predicts else {}),
    )
    write_model_card(folder, card)


def _has_masks(store: Store, rows: np.ndarray, looked_at: int = 64) -> bool:
    """Whether some of the first masks separate a cell from its surroundings."""
    masks = store.read("masks", rows[:looked_at])
    return bool(masks.any(axis=(1, 2)).any() and not masks.all(axis=(1, 2)).all())
