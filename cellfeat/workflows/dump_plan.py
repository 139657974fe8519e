"""What a dump would do, found out without a detector and without writing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from cellfeat.data.catalogue import Dataset, open_dataset
from cellfeat.data.images import UnreadableImage
from cellfeat.data.slides import picture_size
from cellfeat.detection.scale import choose_tiling, is_field
from cellfeat.store import Store
from cellfeat.store.fields import whole_images
from cellfeat.store.schema import MANIFEST
from cellfeat.workflows.dump_config import DumpConfig
from cellfeat.workflows.dumper import check_weights, listings_of


def plan_dump(
    cfg: CfgNode, datasets: Sequence[str | Dataset], output: Path, config: DumpConfig, data_root: Path | None = None
) -> list[dict[str, Any]]:
    """The images of each dataset that a dump would take; arguments as of `cellfeat.workflows.dump.dump`.

    Returns:
        For each dataset: dataset, domain, images, stored (those that the store in `output` has already), unreadable (by
        their headers), fields (pictures that are cut into tiles, or may be where their scale is not known).

    Raises:
        CellfeatError: As a dump would raise before its first image.
    """
    check_weights(cfg.MODEL.WEIGHTS)
    opened = [open_dataset(one, data_root) if isinstance(one, str) else one for one in datasets]
    stored = set(whole_images(Store(output).images())["image_id"]) if (output / MANIFEST).exists() else set()
    found = []
    for name, records in listings_of(opened, config).items():
        sizes = {record.image_id: size for record in records if (size := _size(record.path))}
        large = [r for r in records if r.image_id in sizes and _is_cut(cfg, sizes[r.image_id], r.um_per_px)]
        found.append(
            {
                "dataset": name,
                "domain": records[0].domain,
                "images": len(records),
                "stored": sum(record.image_id in stored for record in records),
                "unreadable": len(records) - len(sizes),
                "fields": len(large) if config.fields == "tile" else 0,
            }
        )
    return found


def dump_plan_lines(planned: Sequence[dict[str, Any]]) -> Iterator[str]:
    """`plan_dump`'s result as lines for a terminal."""
    for one in planned:
        parts = [f"{one['images']} images"]
        parts += [f"{one['stored']} of them stored already"] if one["stored"] else []
        parts += [f"{one['fields']} of them large fields that are cut into tiles"] if one["fields"] else []
        parts += [f"{one['unreadable']} of them unreadable"] if one["unreadable"] else []
        yield f"{one['dataset']} (domain {one['domain']}): {', '.join(parts)}"


def _is_cut(cfg: CfgNode, size: tuple[int, int], um_per_px: float | None) -> bool:
    """Whether a picture is cut into tiles, or may be where its scale is not known."""
    if um_per_px:
        return choose_tiling(cfg, size, um_per_px, None) is not None
    return is_field(cfg, size, um_per_px)


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return picture_size(path)
    except UnreadableImage:
        return None
