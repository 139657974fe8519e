"""The blocks of a dump put together, wherever they were made."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellfeat.core.files import as_written, read_json, read_own_json, write_json
from cellfeat.core.lock import FolderLock
from cellfeat.core.run_record import differences, different
from cellfeat.errors import CellfeatError
from cellfeat.store import Store
from cellfeat.store.join import join_parts
from cellfeat.store.manifest import read_manifest
from cellfeat.store.opening import check_place
from cellfeat.store.schema import MANIFEST, own_folder
from cellfeat.workflows.dump_fields import DIAMETERS
from cellfeat.workflows.dump_summary import SUMMARY, joined_summary
from cellfeat.workflows.dumper import BLOCK, BLOCKS, blocks_of, check_readable

JOINED = ".blocks.joined"  # the blocks of a store that is joined, while they are removed
BLOCK_AGAIN = "remove the folder of this block and run its part again"
SHOWN = 3  # names in a message


def join_blocks(output: Path, elsewhere: Sequence[Path] = ()) -> Store:
    """Put the blocks of a dump together: one store, equal row for row to that of a single process.

    The shards are moved, or copied from another file system. Joining may be interrupted and begun again, and what is
    joined already stays as it is. The blocks are removed in the end, those elsewhere too.

    Args:
        output: Folder of the store, which holds blocks, or to which those elsewhere go.
        elsewhere: Folders of stores on other disks that hold blocks of the same dump.

    Raises:
        CellfeatError: There are no blocks, some are missing, or none of the images can be read.
        DifferentInputs: Blocks were made with different settings, or from different images.
        Busy: Another process joins.
    """
    for folder in (output, *elsewhere):
        shutil.rmtree(folder / JOINED, ignore_errors=True)  # of a join that was interrupted at its end
    places = [own_folder(folder / BLOCKS) for folder in (output, *elsewhere) if (folder / BLOCKS).is_dir()]
    if not places and holds_store(output) and (output / SUMMARY).exists():
        for entry in read_manifest(output)["shards"]:
            check_place(output, entry)
        return Store(output)  # by a join that was killed at its very end, or that has ended well
    if not places:
        raise CellfeatError(f"{output}: holds no blocks of a dump", "`cellfeat dump --part K/N` makes blocks")
    with FolderLock(output) as lock:
        blocks = _complete(output, places)
        summaries = [_record(folder)["summary"] for folder in blocks]
        for place in places:
            if (place / DIAMETERS).exists() and not (output / DIAMETERS).exists():
                write_json(output / DIAMETERS, read_json(place / DIAMETERS))
        with as_written(places[0], "remove it and dump again"):
            write_json(output / SUMMARY, joined_summary(summaries))
        join_parts(blocks, output, lock)
        for place in places:
            drop_blocks(place.parent)
    store = Store(output)
    check_readable(store)
    return store


def drop_blocks(folder: Path) -> None:
    """Remove the blocks of a store that is whole, and what is left of those that a killed process was removing."""
    shutil.rmtree(folder / JOINED, ignore_errors=True)
    if (folder / BLOCKS).is_dir():
        own_folder(folder / BLOCKS).rename(folder / JOINED)  # half of them would look like a dump that is not complete
        shutil.rmtree(folder / JOINED)


def holds_store(folder: Path) -> bool:
    """Whether there is a store with rows; an empty one is in nobody's way."""
    return (folder / MANIFEST).exists() and bool(read_manifest(folder)["shards"])


def check_open(folder: Path) -> None:
    """Refuse to make blocks of what is a store, or where a link leads elsewhere.

    Raises:
        CellfeatError: It is, or the folder of blocks is a link.
    """
    own_folder(folder / BLOCKS)
    if holds_store(folder):
        raise CellfeatError(f"{folder}: is a whole store already", "choose another --output, or dump without parts")


def _complete(output: Path, places: Sequence[Path]) -> list[Path]:
    """The folders of all blocks of a dump, in their order.

    Raises:
        CellfeatError: Some are missing.
        DifferentInputs: They are of different dumps.
    """
    listed = [folder for place in reversed(places) for folder in place.glob("[0-9]" * 5 + "*")]
    if strangers := [folder for folder in listed if not folder.name.isdecimal()]:
        raise CellfeatError(f"{strangers[0]}: is no block of a dump", "move it elsewhere and join again")
    found = {int(folder.name): folder for folder in listed}
    records = {number: _record(folder) for number, folder in found.items()}
    if not records:
        raise CellfeatError(f"{output}: no block of the dump is done yet", "run its parts, or wait for them")
    (first, said), *others = [(number, _settings(record)) for number, record in sorted(records.items())]
    for number, settings in others:
        if changed := list(differences(settings, said)):
            raise different(found[number], changed, f"block {first} with", "remove it and run its part again")
    with as_written(found[first] / BLOCK, BLOCK_AGAIN):
        blocks = blocks_of(said["of"], said["batch_size"])
        notes = [record["note"] for record in records.values()]
        if missing := sorted(set(range(len(blocks))) - set(found)):
            raise CellfeatError(*_missing(output, missing, len(blocks), notes))
        if len(found) > len(blocks):
            raise ValueError(f"{len(found)} blocks are here, of {len(blocks)}")
    return [found[number] for number in range(len(blocks))]


def _record(block: Path) -> dict[str, Any]:
    """What a block says of itself."""
    path = block / BLOCK
    with as_written(path, BLOCK_AGAIN):
        record = read_own_json(path, BLOCK_AGAIN)
        if not all(isinstance(record[key], dict) for key in ("inputs", "summary", "note")):
            raise TypeError("inputs, summary or note is no object")
    return record


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    """What all blocks of a dump share."""
    return {key: value for key, value in record["inputs"].items() if key != "batches"}


def _missing(output: Path, missing: Sequence[int], total: int, notes: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """What is missing and what to do, naming the parts where all blocks were made as parts of the same number."""
    named = ", ".join(f"{number:05d}" for number in missing[:SHOWN])
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    what = f"{output}: of {total} blocks {len(missing)} are missing: {named}{more}"
    numbers = {note["part"][1] if "part" in note else 0 for note in notes}
    if len(numbers) > 1 or 0 in numbers:
        return what, "run the same dump again, which makes them"
    [n] = numbers
    parts = sorted({number % n + 1 for number in missing})
    named = ", ".join(f"--part {k}/{n}" for k in parts[:SHOWN])
    more = f" and {len(parts) - SHOWN} more parts" if len(parts) > SHOWN else ""
    return what, f"run again the same dump with {named}{more}, or wait for it"
