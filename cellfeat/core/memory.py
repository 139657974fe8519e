"""How much memory there is to take."""

from __future__ import annotations

import os
from pathlib import Path

UNKNOWN = 1 << 62  # bytes: a system that does not tell

# A group's limit and use, in bytes, by the two versions of Linux' control groups. Containers and SLURM set them.
_GROUP_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def available_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process can take without being killed: what the machine and its control groups have left.

    Args:
        proc: Where the system tells about the machine and this process.
        cgroup: Where it tells about control groups.
    """
    return max(0, min(_machine(proc), *(_left(folder) for folder in _groups(proc, cgroup))))


def _machine(proc: Path) -> int:
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return UNKNOWN


def _groups(proc: Path, cgroup: Path) -> list[Path]:
    """The folders of this process's control groups and of the groups that contain them."""
    folders = {cgroup, cgroup / "memory"}  # in a container the root is often the group itself
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return list(folders)
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = cgroup / "memory" if controllers else cgroup
        own = base / path.lstrip("/")
        folders |= {own, *(parent for parent in own.parents if parent.is_relative_to(base))}
    return list(folders)


def _left(folder: Path) -> int:
    for limit, usage in _GROUP_FILES:
        try:
            return int((folder / limit).read_text()) - int((folder / usage).read_text()) + _reclaimable(folder)
        except (OSError, ValueError):  # no such file, or the limit "max"
            continue
    return UNKNOWN


def _reclaimable(folder: Path) -> int:
    """Bytes of files that the system holds for the group and gives up when it needs them."""
    try:
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 0
