"""An embeddings file moved domain by domain onto an anchor's statistics (`cellfeat.data.alignment`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cellfeat.data.alignment import Alignment, aligned
from cellfeat.errors import CellfeatError
from cellfeat.store import Embeddings, read_embeddings, write_embeddings


def align_embeddings(
    source: str | Path, output: str | Path, table: pd.DataFrame, rows: np.ndarray, by: Alignment, anchor: str | None
) -> Path:
    """Write an embeddings file aligned; its method is called `<method>+<by>`.

    Args:
        source: An embeddings file of the store.
        table: The store's table.
        rows: Row numbers of the cells that the statistics are taken from: the train parts of all domains.
        anchor: Domain that the others are moved onto; None takes the first in alphabetical order.

    Raises:
        CellfeatError: The anchor is no domain, or a domain has fewer than two of the `rows`.
    """
    found = read_embeddings(source)
    if found.cell_id.tolist() != table["cell_id"].tolist():
        raise CellfeatError(f"{source}: holds other cells than the store, or in another order; embed this store again")
    z = aligned(found.z, table["domain"].to_numpy(str), rows, by, anchor)
    result = Embeddings(found.cell_id, z, {**found.attributes, "alignment": by})
    result.attributes["method"] = f"{found.attributes['method']}+{by}"
    write_embeddings(output, result.cell_id, result.z, result.attributes)
    return Path(output)
