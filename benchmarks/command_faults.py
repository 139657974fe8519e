"""Disturbs every writing command and runs it again: it must end as if nothing had happened.

    python benchmarks/command_faults.py --output faults --seconds 3600          # all commands, all faults
    python benchmarks/command_faults.py --output faults merge export            # commands whose names begin so
    python benchmarks/command_faults.py --output faults --table                 # only the table

The figures are those of docs/reliability.md. Every fault is one line of OUTPUT/results.jsonl, and one that is there is
not made again: a run with the same code goes on where the last one ended. What should not be is kept in OUTPUT/logs.
Needs fork (POSIX). The parent has the packages loaded, and so has the process that looks at strange files
(`warm_children`), so a fault costs little more than the command's own work; OUTPUT in memory, such as below /dev/shm,
saves the syncing of files.
"""

from __future__ import annotations

import argparse
import gc
import json
import mmap
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import warm_children
from docs_page import put
from fault_commands import COMMANDS, Command, make_inputs
from fault_damage import damage
from fault_injection import ERRORS, Steps, inject
from fault_results import contents, differences
from faults import small_disk

from cellfeat.core import processes
from cellfeat.core.files import digest, sha256_file, write_text

DONE = 0
STEPS, DISK_STEPS, FEW_STEPS = 120, 12, 3  # operations at most, of a command, at which a fault of a kind is made
RANDOM, MOVED = 20, 5  # faults of a kind at random instants
DAMAGED = 200
SHARES = (0, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.98)  # sizes of small disks, of what a command leaves
PAGE = mmap.PAGESIZE  # of which a file system in memory gives each file some
TIMEOUT = 600  # seconds
NOBODY = 65534


class Whole(NamedTuple):
    """An undisturbed run: what it leaves, its writing operations, seconds and bytes."""

    contents: dict
    steps: int
    seconds: float
    size: int


class Bench:
    """Runs commands in forked children, with faults."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.inputs = self.folder / "inputs"
        if child := os.fork():  # what makes the inputs is not loaded in the process that forks commands
            if os.waitpid(child, 0)[1]:
                raise RuntimeError("the inputs cannot be made")
        else:
            status = 1
            try:
                make_inputs(self.inputs)
                status = 0
            finally:
                os._exit(status)
        self.results = self.folder / "results.jsonl"
        self._whole: dict[str, Whole] = {}

    def whole(self, command: Command) -> Whole:
        """What an undisturbed run leaves, takes and does."""
        if command.name not in self._whole:
            self.warm(command)
            output, steps = self.fresh(command), Steps()
            started = time.monotonic()
            status, said = self.run(command, output, lambda: inject(output.parent, steps))
            if status != DONE:
                raise RuntimeError(f"{command.name} fails undisturbed with {status}: {said[-500:]}")
            size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
            gc.freeze()  # what is loaded now stays in pages that parent and children share
            self._whole[command.name] = Whole(contents(output), steps.count, time.monotonic() - started, size)
        return self._whole[command.name]

    def warm(self, command: Command) -> None:
        """Run a command in this process: what it imports, compiles and has looked at is there for all its children."""
        output, log = self.fresh(command), self.folder / "log.txt"
        with open(log, "w") as file, redirect_stdout(file), redirect_stderr(file), suppress(SystemExit):
            run_in(output, command.argv(self.inputs, output))

    def fresh(self, command: Command) -> Path:
        """An output folder of a command with what it needs, and nothing else."""
        if os.path.ismount(self.folder / "work"):  # of a bench that was killed
            subprocess.run(["umount", str(self.folder / "work")], check=True)
        for name in ("work", "kept"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        output = self.folder / "work" / "out"
        output.parent.mkdir()
        command.prepare(self.inputs, output)
        return output

    def start(self, command: Command, output: Path, before: Callable[[], object] = lambda: None) -> int:
        """Start a command in a child of its own session: its id."""
        argv = command.argv(self.inputs, output)
        log = self.folder / "log.txt"
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            os.setsid()
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1), os.dup2(handle, 2)
            output.parent.mkdir(exist_ok=True)
            run_in(output, argv, before)
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1 if error.code else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status)

    def end(self, pid: int) -> int:
        """Wait for a command and end what it has left running: its exit status, negative for a signal."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                break
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(status)

    def run(self, command: Command, output: Path, before: Callable[[], object] = lambda: None) -> tuple[int, str]:
        """Run a command to its end: exit status and what it said."""
        log = self.folder / "log.txt"
        log.unlink(missing_ok=True)
        status = self.end(self.start(command, output, before))
        return status, log.read_text(errors="replace") if log.exists() else ""

    def keep(self, result: dict) -> None:
        """Write a result down, and keep what the command said where something is wrong."""
        with open(self.results, "a") as file:
            file.write(json.dumps(result) + "\n")
        if result["outcome"]:
            print(f"{result['command']}: {result['fault']}: {result['outcome']}", flush=True)
            logs = self.folder / "logs"
            logs.mkdir(exist_ok=True)
            name = f"{result['command']} {result['fault']}".replace("/", " ")
            shutil.copy(self.folder / "log.txt", logs / name)

    # Faults. Each gives an outcome, "" where all is well.

    def killed_at_step(self, command: Command, step: int) -> str:
        output, steps = self.fresh(command), Steps()
        status, said = self.run(command, output, lambda: inject(output.parent, steps, "kill", step))
        if status not in (-signal.SIGKILL, *command.ends):  # where several processes write, it may be one of them
            return _outcome(status, said)
        return self.again(command, output)

    def killed_at_random(self, command: Command, number: int) -> str:
        output, rng = self.fresh(command), random.Random(f"{command.name} {number}")
        for _ in range(2):
            pid = self.start(command, output)
            time.sleep(rng.uniform(0, 1.1 * self.whole(command).seconds))
            os.kill(pid, signal.SIGKILL)
            self.end(pid)
        return self.again(command, output)

    def failing_disk(self, command: Command, step: int, kind: str) -> str:
        output, steps = self.fresh(command), Steps()
        status, said = self.run(command, output, lambda: inject(output.parent, steps, kind, step))
        if status not in command.ends:
            return _outcome(status, said)
        return self.again(command, output)

    def small_disk(self, command: Command, share: float) -> str:
        """The output lies on a file system of a share of the size that it takes; then there is room."""
        output = self.fresh(command)
        files = [path.stat().st_size for path in output.parent.rglob("*") if path.is_file()]
        size = sum(-(-size // PAGE) * PAGE for size in files) + int(share * self.whole(command).size)
        shutil.move(output.parent, kept := self.folder / "kept")
        with small_disk(output.parent, max(size, 1 << 14)):
            shutil.copytree(kept, output.parent, dirs_exist_ok=True)
            status, said = self.run(command, output)
            if status not in command.ends:
                return _outcome(status, said)
            subprocess.run(["mount", "-o", "remount,size=1g", str(output.parent)], check=True)
            return self.again(command, output)

    def no_permission(self, command: Command, step: int) -> str:
        """Killed, then run by another user, who may read everything and write nothing; then the owner runs it."""
        output, steps = self.fresh(command), Steps()
        if step:
            self.run(command, output, lambda: inject(output.parent, steps, "kill", step))
        status, said = self.run(command, output, lambda: os.setuid(NOBODY))
        if status not in command.ends:
            return _outcome(status, said)
        return self.again(command, output)

    def clock_back(self, command: Command, step: int) -> str:
        """Killed, then run again a year earlier."""
        output, steps = self.fresh(command), Steps()
        self.run(command, output, lambda: inject(output.parent, steps, "kill", step))
        return self.again(command, output, _a_year_earlier)

    def damaged(self, command: Command, number: int) -> str:
        """Killed at a step, or ended; then a file of what it left is damaged, and it is run again.

        It ends with what an undisturbed run leaves, or in a line that names a file or folder of its own.
        """
        output, rng, steps = self.fresh(command), random.Random(f"{command.name} damaged {number}"), Steps()
        before = rng.randrange(self.whole(command).steps + self.whole(command).steps // 8)
        self.run(command, output, lambda: inject(output.parent, steps, "kill", before))
        if not (done := damage(output, rng)):
            return ""
        status, said = self.run(command, output)
        if status == DONE:
            whole = self.whole(command).contents
            different = differences(contents(output), whole)
            return f"{done}: {different}" if different else ""
        if status != 2 or "Traceback" in said or not re.search(rf"{output.name}\b", said.strip().splitlines()[-1]):
            return f"{done}: {_outcome(status, said)}"
        return ""

    def two_at_once(self, command: Command, name: str) -> str:
        """Two commands that write to one place: each ends or is refused, and what has ended is whole."""
        other = COMMANDS[name]
        self.whole(other)
        output = self.fresh(command)
        other.prepare(self.inputs, output)
        (self.folder / "log.txt").unlink(missing_ok=True)
        pids = [self.start(command, output), self.start(other, output)]
        statuses = [self.end(pid) for pid in pids]
        said = (self.folder / "log.txt").read_text(errors="replace")
        for one, status in zip((command, other), statuses, strict=True):
            if status not in one.ends:
                return _outcome(status, said)
        if DONE not in statuses:
            return "both refused"
        ended = [one for one, status in zip((command, other), statuses, strict=True) if status == DONE]
        return next(filter(None, (self.again(one, output, alone=command is other) for one in ended)), "")

    def moved_away(self, command: Command, number: int, how: str) -> str:
        """The output folder is renamed or deleted while the command runs; then it is run again.

        A command that ends well while its folder was renamed has left all of its output in one place.
        """
        output, rng = self.fresh(command), random.Random(f"{command.name} {how} {number}")
        (self.folder / "log.txt").unlink(missing_ok=True)
        pid = self.start(command, output)
        time.sleep(rng.uniform(0, self.whole(command).seconds))
        moved = output.with_name("moved")
        if output.exists():
            output.rename(moved)
            if how == "deleted":
                shutil.rmtree(moved, ignore_errors=True)
        status = self.end(pid)
        said = (self.folder / "log.txt").read_text(errors="replace")
        if status not in command.ends:
            return _outcome(status, said)
        whole = self.whole(command).contents
        if status == DONE and moved.exists() and all(differences(contents(at), whole) for at in (output, moved)):
            return "ends well, and its output is nowhere whole"
        command.prepare(self.inputs, output)
        return self.again(command, output)

    def again(
        self, command: Command, output: Path, before: Callable[[], object] = lambda: None, alone: bool = True
    ) -> str:
        """Run a command to its end; `alone`: nothing else has written to its folder."""
        status, said = self.run(command, output, before)
        if status != DONE:
            return f"again: {_outcome(status, said)}"
        whole = self.whole(command).contents
        different = differences(contents(output, None if alone else whole), whole)
        return f"again: {different}" if different else ""


def run_in(output: Path, argv: list[str], before: Callable[[], object] = lambda: None) -> None:
    """Run a command in this process; a folder for the file that it writes is made."""
    from cellfeat.cli import main

    if any(f"{output}{os.sep}" in argument for argument in argv):
        output.mkdir(exist_ok=True)
    before()
    main(argv)


def _a_year_earlier() -> None:
    now = time.time
    time.time = lambda: now() - 365 * 86400
    time.time_ns = lambda: int((now() - 365 * 86400) * 1e9)


def _outcome(status: int, said: str) -> str:
    last = [line for line in said.strip().splitlines() if line.strip()][-1:] or [""]
    kind = "traceback" if "Traceback" in said else "refused" if status == 2 else f"status {status}"
    return f"{kind}: {last[0][:200]}"


def faults(bench: Bench, command: Command) -> dict[str, Callable[[], str]]:
    """All faults of a command by name."""
    steps, rng = bench.whole(command).steps, random.Random(command.name)
    few = [0, *rng.sample(range(1, steps), min(FEW_STEPS, steps - 1))]
    found: dict[str, Callable[[], str]] = {}

    def add(kind: str, places: Iterable[object], fault: Callable[..., str], *more: object) -> None:
        for place in places:
            found[f"{kind}/{place}"] = partial(fault, command, place, *more)

    add("killed at a step", rng.sample(range(steps), min(STEPS, steps)), bench.killed_at_step)
    add("killed at random", range(RANDOM), bench.killed_at_random)
    for kind in ERRORS:
        add(f"disk {kind}", rng.sample(range(steps), min(DISK_STEPS, steps)), bench.failing_disk, kind)
    if os.getuid() == 0:
        add("no permission", few, bench.no_permission)
        add("small disk", SHARES, bench.small_disk)
    add("clock back", few, bench.clock_back)
    add("damaged", range(DAMAGED), bench.damaged)
    for how in ("renamed", "deleted"):
        add(how, range(MOVED), bench.moved_away, how)
    names = list(COMMANDS)
    add("two at once", names[: names.index(command.name) + 1], bench.two_at_once)  # each pair once
    turns: Counter = Counter()  # the first of each kind, then the second of each: a part of them holds all kinds

    def turn(name: str) -> int:
        turns[_kind(name)] += 1
        return turns[_kind(name)]

    order = sorted(random.Random(0).sample(sorted(found), len(found)), key=turn)
    return {name: found[name] for name in order}


def check_code(folder: Path) -> None:
    """Make sure that all results in a folder are of one state of the package."""
    package = Path(processes.__file__).parents[1]
    now = digest([sha256_file(path) for path in sorted(package.rglob("*.py"))])
    if (folder / "code").exists() and (folder / "code").read_text() != now:
        sys.exit(f"{folder}: holds results of other code; choose another --output")
    write_text(folder / "code", now)


def _kind(fault: str) -> str:
    return fault.partition("/")[0]


def table(results: list[dict]) -> str:
    """A Markdown table: command by fault, faults survived of faults made."""
    counts: dict[str, Counter] = defaultdict(Counter)
    kinds: list[str] = []
    for result in results:
        kind = _kind(result["fault"])
        kinds += [kind] if kind not in kinds else []
        counts[result["command"]][kind] += 1
        counts[result["command"]][f"{kind} ok"] += not result["outcome"]
    lines = [f"| command | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    for name, count in counts.items():
        cells = [f"{count[f'{kind} ok']} of {count[kind]}" if count[kind] else "–" for kind in kinds]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help="beginnings of their names; default: all")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--fault", nargs="*", default=[""], help="beginnings of faults' names; default: all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--write", type=Path, help="put the table into this page (docs/reliability.md)")
    parser.add_argument("--table", action="store_true", help="make no fault")
    options = parser.parse_args()
    path = options.output / "results.jsonl"
    results = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if not options.table:
        os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"}
        warm_children.start()
        processes.get_context = lambda kind: get_context("fork")  # a new Python would import PyTorch for seconds
        made = {(result["command"], result["fault"]) for result in results}
        chosen = [c for c in COMMANDS.values() if c.name.startswith(tuple(options.commands) or "")]
        check_code(options.output)
        bench, end = Bench(options.output), time.monotonic() + options.seconds
        for number, command in enumerate(chosen):  # each gets an equal share of the time that is left
            if time.monotonic() > end:
                break
            possible = faults(bench, command)
            until = time.monotonic() + (end - time.monotonic()) / (len(chosen) - number)
            for name, fault in possible.items():
                skipped = (command.name, name) in made or not name.startswith(tuple(options.fault))
                if skipped or time.monotonic() > until:
                    continue
                results.append({"command": command.name, "fault": name, "outcome": fault()})
                bench.keep(results[-1])
    print(table(results))
    if options.write:
        survived = sum(not result["outcome"] for result in results)
        put(options.write, "faults of commands", f"{len(results)} faults, {survived} survived:\n\n{table(results)}")


if __name__ == "__main__":
    if not hasattr(os, "fork"):
        sys.exit("this needs fork")
    main()
