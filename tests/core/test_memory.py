"""Memory that is left, by machine and control group."""

from __future__ import annotations

import pytest

from cellfeat.core.memory import UNKNOWN, available_memory


@pytest.fixture
def system(tmp_path):
    """A machine with 1,000,000 kB free, and the groups given as {folder: {file: content}}: bytes available."""

    def available(own: str, groups: dict[str, dict[str, str]]) -> int:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 1000000 kB\n")
        (tmp_path / "proc/self/cgroup").write_text(own)
        for folder, files in groups.items():
            (tmp_path / "cgroup" / folder).mkdir(parents=True)
            for name, content in files.items():
                (tmp_path / "cgroup" / folder / name).write_text(content)
        return available_memory(tmp_path / "proc", tmp_path / "cgroup")

    return available


@pytest.mark.parametrize(
    ("own", "groups", "left"),
    [
        ("0::/\n", {}, 1_024_000_000),
        ("0::/job\n", {"job": {"memory.max": "max", "memory.current": "5"}}, 1_024_000_000),
        ("0::/job\n", {"job": {"memory.max": "5000", "memory.current": "2000"}}, 3000),
        ("0::/job/step\n", {"job": {"memory.max": "5000", "memory.current": "4000"}, "job/step": {}}, 1000),
        ("0::/gone\n", {"": {"memory.max": "5000", "memory.current": "1000"}}, 4000),
        ("0::/\n", {"": {"memory.max": "9", "memory.current": "8", "memory.stat": "inactive_file 3\nanon 4"}}, 4),
        ("0::/\n", {"": {"memory.max": "8", "memory.current": "9"}}, 0),
        ("4:memory:/j\n", {"memory/j": {"memory.limit_in_bytes": "700", "memory.usage_in_bytes": "100"}}, 600),
    ],
)
def test_the_narrowest_group_counts(system, own, groups, left):
    assert system(own, groups) == left


def test_a_system_that_does_not_tell(tmp_path):
    assert 0 < available_memory(tmp_path, tmp_path) <= UNKNOWN
