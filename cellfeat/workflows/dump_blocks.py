"""The blocks of a dump, made by several processes of this machine or by the jobs of a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from cellfeat.core.processes import in_processes
from cellfeat.core.progress import Progress
from cellfeat.detection.device import take_gpu
from cellfeat.errors import CellfeatError
from cellfeat.workflows.dump_fill import Counts
from cellfeat.workflows.dump_join import check_open
from cellfeat.workflows.dumper import Dumper, block_folder


def dump_part(dumper: Dumper, output: Path, part: tuple[int, int]) -> int:
    """Make the blocks of one part of a dump that are not there yet.

    Args:
        dumper: The dump.
        output: Folder of the store.
        part: (k, n): every n-th block from the k-th on, k from 1 to n.

    Returns:
        Number of the part's blocks.

    Raises:
        CellfeatError: The store is joined already, or as `Dumper.block` raises it.
    """
    k, n = part
    check_open(output)
    numbers = range(k - 1, len(dumper.blocks), n)
    total, counts = sum(dumper.images(number) for number in numbers), Counts()
    with Progress(total=total, desc=f"part {k}/{n}", unit="image") as progress:
        for number in numbers:
            folder, before = block_folder(output, number), counts
            counts += dumper.block(*dumper.blocks[number], folder, progress, {"part": [k, n]})
            progress.skip(0 if counts.images > before.images else dumper.images(number))
    dumper.say(counts)
    return len(numbers)


def dump_in_processes(dumper: Dumper, output: Path, processes: int) -> None:
    """Make all blocks that are not there yet, by several processes of this machine, each with a GPU if there are some.

    Raises:
        CellfeatError: A process was killed, or as `Dumper.block` raises it. What is done stays for the next run.
    """
    check_open(output)
    counts, tasks = Counts(), [(*block, block_folder(output, number)) for number, block in enumerate(dumper.blocks)]
    with Progress(total=len(dumper.records), desc="dump", unit="image") as progress:
        for number, found in in_processes(_block, tasks, processes, _begin, (dumper,)):
            counts += found
            progress.update(found.images)
            progress.skip(dumper.images(number) - found.images)
    dumper.say(counts)


_dumper: Dumper  # of a process of `dump_in_processes`


def _begin(place: int, dumper: Dumper) -> None:
    global _dumper
    _dumper = dumper
    take_gpu(place)


def _block(start: int, stop: int, folder: Path) -> Counts:
    return _dumper.block(start, stop, folder)


def part_of(text: str, environment: Mapping[str, str]) -> tuple[int, int]:
    """The part (k, n) that `--part` names.

    Args:
        text: "K/N", or "auto": of the task of a SLURM array, of a process of torchrun, or of a process of a task.
        environment: Variables of the process.

    Raises:
        CellfeatError: It is no part, or there is no array and no torchrun.
    """
    if text == "auto":
        return _part_of_job(environment)
    match = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise CellfeatError(f"--part {text}: is no part", "give K/N, such as 1/8 to 8/8, or auto in a job array")
    return int(match[1]), int(match[2])


def _part_of_job(environment: Mapping[str, str]) -> tuple[int, int]:
    def number(name: str, default: int) -> int:
        value = environment.get(name, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise CellfeatError(f"--part auto: {name} is {value!r}, no number", "give --part K/N")
        return int(value)

    if not {"SLURM_ARRAY_TASK_ID", "RANK"} & set(environment):
        raise CellfeatError(
            "--part auto: this is no task of a SLURM array and no process of torchrun "
            "(no SLURM_ARRAY_TASK_ID, no RANK)",
            "give --part K/N",
        )
    tasks, ranks = number("SLURM_ARRAY_TASK_COUNT", 1), number("WORLD_SIZE", 1)
    first, step = number("SLURM_ARRAY_TASK_MIN", 0), max(1, number("SLURM_ARRAY_TASK_STEP", 1))
    task, rest = divmod(number("SLURM_ARRAY_TASK_ID", first) - first, step)
    rank = number("RANK", 0)
    if rest or not 0 <= task < tasks or not rank < ranks:
        raise CellfeatError(
            "--part auto: the array's numbers are no regular row, or RANK is not below WORLD_SIZE",
            "use --array=0-N, or give --part K/N",
        )
    return task * ranks + rank + 1, tasks * ranks
