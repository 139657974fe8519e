"""Is what lies in this folder the work that is asked for now? One answer for every stage that writes a folder.

    record = RunRecord(folder, {"config": config.model_dump(), "store": store.digest}, resumable=("checkpoints/*",))
    if not record.check():  # True: finished from the same inputs, nothing to do
        record.begin()
        ...                 # the work; it may go on from what an interrupted run left
        record.done(seconds=12.5)

The record is one JSON file, {"inputs": ..., "done": ..., results of `done`}. An unfinished run is worth keeping only if
it left something to go on from (`resumable`). Otherwise a run with other inputs replaces it, so that a first try that
failed never blocks a corrected second one. Nothing is removed from a folder that carries no record.
"""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellfeat.core.files import read_own_json, write_json
from cellfeat.core.lock import LOCK
from cellfeat.errors import CellfeatError, DifferentInputs

RECORD = "record.json"
STAGE = "stage.json"  # of a pipeline's stage, in whose folder the run that does the work has a record of its own
SHOWN = 60  # characters of a value in a message: a whole config or digest would hide the sentence


class RunRecord:
    """The record of one run in its output folder.

    Args:
        folder: The output folder. It belongs to the run: nothing else is kept there.
        inputs: All that the results depend on, as JSON values, such as settings and digests.
        resumable: Glob patterns of files in the folder from which an unfinished run goes on.
        name: File name of the record.
        cheap: Results of other inputs are replaced, not refused.
    """

    def __init__(
        self,
        folder: str | Path,
        inputs: Mapping[str, Any],
        resumable: Sequence[str] = (),
        name: str = RECORD,
        cheap: bool = False,
    ) -> None:
        self.folder, self.path = Path(folder), Path(folder) / name
        self.inputs = json.loads(json.dumps(dict(inputs)))  # as they will be read: tuples are lists
        self._resumable, self._cheap = resumable, cheap

    def check(self) -> bool:
        """Compare the folder with the inputs, without changing anything.

        Returns:
            True if the run is finished, False if it has to be done or continued.

        Raises:
            DifferentInputs: The folder holds finished or resumable results of other inputs, and they are not cheap.
            CellfeatError: The folder holds files, but no record.
        """
        self.check_owner()
        found = self.read()
        if found is None or found.get("discarded"):
            return False
        changed = list(differences(found["inputs"], self.inputs))
        if changed and not self._cheap and (found["done"] or self.begun()):
            raise different(self.folder, changed)
        return bool(found["done"]) and not changed

    def check_owner(self) -> None:
        """Make sure that the folder is this run's to write: absent, empty, or with a record in it.

        Raises:
            CellfeatError: It holds files, but no record; or it is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise CellfeatError(f"{self.folder}: is a file", "choose another output folder")
        if self.read() is None and any(not entry.name.startswith(".") for entry in self._entries()):
            raise CellfeatError(f"{self.folder}: holds files of something else", "choose another output folder")

    def begin(self) -> None:
        """Claim the folder for these inputs; leftovers of a run with other inputs are removed.

        Raises:
            CellfeatError: As `check`.
        """
        if self.check():
            return
        found = self.read()
        if found is not None and (found["inputs"] != self.inputs or found.get("discarded")):
            self.discard()
            found = None
        if found is None:
            self._write(done=False)

    def discard(self) -> None:
        """Remove the results in a folder that carries a record; if this is killed, the next `begin` completes it."""
        found = self.read()
        if found is None:
            return
        write_json(self.path, {"inputs": found["inputs"], "done": False, "discarded": True})
        for entry in self._entries():
            if entry.name == LOCK:  # whoever writes here holds it
                continue
            if stat.S_ISDIR(entry.lstat().st_mode):
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def done(self, **results: Any) -> None:
        """Note that the run is finished, with JSON values worth keeping beside its inputs."""
        self._write(done=True, **results)

    def read(self) -> dict[str, Any] | None:
        """The record as it is on disk; None where there is none.

        Raises:
            CellfeatError: It is not a record.
        """
        if not self.path.exists():
            return None
        found = read_own_json(self.path, "restore it, or remove its folder and run again")
        record = isinstance(found, dict) and isinstance(found.get("inputs"), dict)
        if not record or not isinstance(found.get("done"), bool):
            raise CellfeatError(f"{self.path}: not the record of a run", "remove its folder and run again")
        return found

    def _write(self, **content: Any) -> None:
        write_json(self.path, {"inputs": self.inputs, **content})

    def _entries(self) -> list[Path]:
        """What lies in the folder besides this record and the one of the stage around it."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return [entry for entry in found if entry.name not in (self.path.name, STAGE)]

    def begun(self) -> bool:
        """Whether an unfinished run left something to go on from."""
        return any(True for pattern in self._resumable for _ in self.folder.glob(pattern))


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, value before, value now) of every leaf that two nested mappings do not share.

    A key that only one side has counts as None on the other.
    """
    for key in {**now, **before}:  # in the order of `now`
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", old, new


def different(
    place: str | Path,
    changed: Sequence[tuple[str, Any, Any]],
    now: str = "now it is",
    remedy: str = "choose another output folder, or remove this one",
) -> DifferentInputs:
    """The one wording for "this was made from other inputs".

    Args:
        place: The file or folder that stays as it is.
        changed: From `differences`, at least one.
        now: What has the other value.
        remedy: What to do about it.
    """
    key, old, new = changed[0]
    before, after = _shown(old, new)
    more = f" and {len(changed) - 1} more differences" if len(changed) > 1 else ""
    return DifferentInputs(
        f"{place}: was made with {key} = {before}, {now} {after}{more}",
        remedy,
    )


def _shown(old: Any, new: Any) -> tuple[str, str]:
    """Two different values as short texts on one line, cut to where they differ."""
    texts = [" ".join(repr(value).split()) for value in (old, new)]
    shared = next((k for k, (a, b) in enumerate(zip(*texts)) if a != b), min(map(len, texts)))
    return _around(texts[0], shared), _around(texts[1], shared)


def _around(text: str, position: int) -> str:
    if len(text) <= SHOWN:
        return text
    start = max(0, min(position - SHOWN // 4, len(text) - SHOWN))
    piece = text[start : start + SHOWN]
    return f"{'...' if start else ''}{piece}{'...' if start + SHOWN < len(text) else ''}"
