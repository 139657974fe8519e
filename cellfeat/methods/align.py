"""An embeddings file moved domain by domain onto an anchor's statistics (`cellfeat.data.alignment`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cellfeat.data.alignment import Alignment, aligned
from cellfeat.store import read_embeddings, write_embeddings


def align_embeddings(
    source: str | Path, output: str | Path, table: pd.DataFrame, rows: np.ndarray, by: Alignment, anchor: str | None
) -> Path:
    """Write an embeddings file aligned; its method is called `<method>+<by>`.

    Args:
        source: An embeddings file of the store.
        table: The store's table.
        rows: Row numbers of the cells that the statistics are taken from: the train parts of all domains.
        anchor: Domain that the others are moved onto; see `anchor_of` for None.

    Raises:
        CellfeatError: The file lacks a cell of the store, the anchor is no domain or cannot be known, or a domain has
            fewer than two of the `rows`.
    """
    found = read_embeddings(source)
    z = aligned(found.of(table["cell_id"]), table["domain"].to_numpy(str), rows, by, anchor)
    said = {**found.attributes, "alignment": by, "method": f"{found.attributes['method']}+{by}"}
    write_embeddings(output, table["cell_id"].to_numpy(), z, said)
    return Path(output)
