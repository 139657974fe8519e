"""From images to a store, by one process, several of this machine or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fvcore.common.config import CfgNode

from cellfeat.data.catalogue import Dataset
from cellfeat.store import Store
from cellfeat.workflows.dump_blocks import dump_in_processes, dump_part
from cellfeat.workflows.dump_config import DumpConfig
from cellfeat.workflows.dump_join import drop_blocks, holds_store, join_blocks
from cellfeat.workflows.dump_ray import dump_on_ray
from cellfeat.workflows.dumper import BLOCKS, Dumper


def dump(
    cfg: CfgNode,
    datasets: Sequence[str | Dataset],
    output: Path,
    config: DumpConfig,
    engine: str = "auto",
    ranks: int = 1,
    data_root: Path | None = None,
    ray: str | None = None,
) -> Store:
    """Run a detector over datasets and store what it finds; run again after an interruption, it goes on.

    Images that cannot be read are stored with the reason and do not stop the run. The folder then also holds
    summary.json (see `cellfeat.workflows.dump_summary.summarise`).

    Args:
        cfg: The detector's config; `MODEL.WEIGHTS` names its checkpoint.
        datasets: Names of the catalogue, or opened datasets such as those of `cellfeat.data.paths.open_paths`.
        output: Folder of the store.
        config: What to keep.
        engine: As in `build_detector`.
        ranks: Processes of this machine, one a GPU where there are GPUs, which share the blocks of the dump; the store
            has the same rows in the same order whatever their number. A store that was begun by one process is
            completed by one.
        data_root: The folder that holds the datasets; None: as `cellfeat.data.catalogue.data_root` says.
        ray: Address of a Ray cluster whose machines share the blocks, see `cellfeat.workflows.dump_ray`.

    Raises:
        CellfeatError: No weights, no images, or a store in `output` that was made from other inputs.
    """
    dumper, begun = Dumper(cfg, datasets, config, engine, data_root), (output / BLOCKS).is_dir()
    if holds_store(output) or (not begun and ranks == 1 and ray is None):
        store = dumper.whole(output)
        drop_blocks(output)  # of a join that was interrupted, or of a dump by several processes beside this one
        return store
    if ray is not None:
        dump_on_ray(dumper, output, ray)
    elif ranks > 1:
        dump_in_processes(dumper, output, ranks)
    else:
        dump_part(dumper, output, (1, 1))
    return join_blocks(output)
