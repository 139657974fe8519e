"""The blocks of a dump by Ray: an actor a GPU or so many cores, few blocks ahead, another try where one dies."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from pathlib import Path
from typing import Any

from cellfeat.core.progress import Progress
from cellfeat.core.ray_tasks import connected, resources
from cellfeat.errors import CellfeatError
from cellfeat.workflows.dump_fill import Counts
from cellfeat.workflows.dump_join import check_open
from cellfeat.workflows.dumper import Dumper, block_folder

log = logging.getLogger(__name__)

AHEAD = 2  # blocks that an actor has at most: the one that it makes and the next
TRIES = 3  # of a block whose actors die


def dump_on_ray(dumper: Dumper, output: Path, address: str) -> None:
    """Make all blocks that are not there yet, by an actor a GPU, or where there is none, one for so many cores.

    All machines see the images, the weights and the store's folder under the same paths. Where an actor or its machine
    dies, its blocks are made by another, and a new actor takes its place as soon as there is room for it.

    Args:
        dumper: The dump.
        output: Folder of the store.
        address: As in `connected`.

    Raises:
        MissingRequirement: Ray is not installed.
        CellfeatError: No such cluster, a block whose actors died three times, or as `Dumper.block` raises it. What is
            done stays for the next run.
    """
    with connected(address) as ray:
        check_open(output)
        _Pool(ray, dumper, output.absolute()).run()


class _Worker:
    """One detector; of an actor."""

    def __init__(self, dumper: Dumper, folder: str) -> None:
        os.chdir(folder)  # where relative paths begin
        self._dumper = dumper

    def ready(self) -> None:
        """Done as soon as the actor lives."""

    def block(self, number: int, output: Path) -> Counts:
        return self._dumper.block(*self._dumper.blocks[number], block_folder(output, number))


class _Pool:
    """The actors, what each of them does, and the blocks that are still to be made."""

    def __init__(self, ray: Any, dumper: Dumper, output: Path) -> None:
        self._ray, self._dumper, self._output = ray, dumper, output
        self._shared = ray.put(dumper)  # once, not with each task
        self._waiting = deque(range(len(dumper.blocks)))
        self._tries: Counter[int] = Counter()
        self._tasks: dict[Any, tuple[Any, int | None]] = {}  # what is under way → actor, number of the block
        self._deaths = 0  # of actors since the last block that was made

    def run(self) -> None:
        """Make all blocks."""
        needs, actors = resources(self._ray)
        self._actors = max(1, min(actors, len(self._waiting)))
        self._class = self._ray.remote(_Worker).options(max_restarts=0, max_task_retries=0, **needs)
        for _ in range(self._actors):
            self._begin()
        done, counts = 0, Counts()
        with Progress(total=len(self._dumper.records), desc=f"dump by {self._actors} actors", unit="image") as progress:
            while done < len(self._dumper.blocks):
                [task], _ = self._ray.wait(list(self._tasks), num_returns=1)
                actor, number = self._tasks.pop(task)
                found = self._result(task, actor, number)
                if found is not None and number is not None:
                    done, counts, self._deaths = done + 1, counts + found, 0
                    progress.update(found.images)
                    progress.skip(self._dumper.images(number) - found.images)
        self._dumper.say(counts)

    def _begin(self) -> None:
        actor = self._class.remote(self._shared, os.getcwd())
        self._tasks[actor.ready.remote()] = actor, None

    def _give(self, actor: Any) -> None:
        """Blocks to an actor, as many as it may have."""
        has = sum(one is actor for one, _ in self._tasks.values())
        for _ in range(min(AHEAD - has, len(self._waiting))):
            number = self._waiting.popleft()
            self._tasks[actor.block.remote(number, self._output)] = actor, number

    def _result(self, task: Any, actor: Any, number: int | None) -> Counts | None:
        """What was seen in a block; None of an actor that has just begun to live, or died."""
        try:
            found = self._ray.get(task)
        except self._ray.exceptions.RayActorError as error:
            self._lost(actor, number, error)
            return None
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, CellfeatError):
                raise error.cause from None
            raise
        self._give(actor)
        return found

    def _lost(self, actor: Any, number: int | None, error: Exception) -> None:
        """Take back the blocks of a dead actor, and begin another one."""
        mine = [task for task, (one, _) in self._tasks.items() if one is actor]
        numbers = [self._tasks.pop(task)[1] for task in mine]
        self._waiting.extendleft(one for one in (*numbers, number) if one is not None)
        self._deaths += 1
        if number is not None:
            self._tries[number] += 1
            log.warning("an actor died while it made block %05d; another one makes it", number)
        if max(self._tries.values(), default=0) >= TRIES or self._deaths > TRIES * self._actors:
            raise CellfeatError(
                f"{self._output}: actors of Ray die again and again"
                + ("" if number is None else f", {self._tries[number]} of them at block {number:05d}")
                + f" ({str(error).strip().splitlines()[0]})",
                "look at Ray's logs; perhaps memory is short. What is done stays for the next run",
            )
        self._begin()
        for other in {id(one): one for one, block in self._tasks.values() if block is not None}.values():
            self._give(other)
