"""Cores, and a container's share of them, of machines that are made up."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pleinair.runtime.engines import cgroup, cores
from pleinair.runtime.speed import machine

Files = Callable[[Mapping[str, object]], Path]


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Linux without psutil and with these files under /; as many CPUs as "cpus" says."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(sys, "platform", "linux")
    for room in (cores, cgroup, machine):
        for name, path in vars(room).items():
            if isinstance(path, Path):
                monkeypatch.setattr(room, name, tmp_path / path.relative_to("/"))

    def make(files: Mapping[str, object]) -> Path:
        cpus = set(range(int(str(files["cpus"]))))
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus, raising=False)
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n", encoding="utf-8")
        return tmp_path

    return make


def topology(*siblings: str) -> dict[str, object]:
    """Files of CPUs, each with the threads of its core."""
    return {
        f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": threads
        for i, threads in enumerate(siblings)
    }


def test_hardware_threads_are_not_cores(linux: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    linux({"cpus": 4, **topology("0,2", "1,3", "0,2", "1,3")})
    assert (cores.physical_cores(), cores.hardware_threads()) == (2, 4)
    assert cores.performance_cores() is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert cores.physical_cores() == 1


def test_a_silent_machine_still_has_a_core(linux: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.physical_cores() == cores.numa_nodes() == 1


def test_intel_s_cores_of_two_kinds(linux: Files) -> None:
    """Two cores of two threads each, and four small ones."""
    facts = topology("0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7")
    kinds = {"sys/devices/cpu_core/cpus": "0-3", "sys/devices/cpu_atom/cpus": "4-7"}
    linux({"cpus": 8, **facts, **kinds})
    assert cores.performance_cores() == 2
    assert cores.physical_cores() == 6


def test_in_a_container_of_small_cores_none_is_for_performance(
    linux: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"sys/devices/cpu_core/cpus": "0-1", "sys/devices/cpu_atom/cpus": "2-3"}
    linux({"cpus": 4, **topology("0", "1", "2", "3"), **kinds})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3}, raising=False)
    assert cores.performance_cores() is None


def test_arm_s_cores_of_three_kinds(linux: Files) -> None:
    """One prime, three large and four small ones, as telephones and laptops have them."""
    sizes = [1024, 850, 850, 850, 300, 300, 300, 300]
    stated = {f"sys/devices/system/cpu/cpu{i}/cpu_capacity": size for i, size in enumerate(sizes)}
    linux({"cpus": 8, **topology(*map(str, range(8))), **stated})
    assert cores.performance_cores() == 4


def test_windows_cores_of_two_kinds() -> None:
    """Records of 48 bytes: what they are about, their length, flags, the efficiency class."""

    def record(efficiency: int) -> bytes:
        return bytes(4) + (48).to_bytes(4, "little") + bytes([1, efficiency]) + bytes(38)

    assert cores.classes(b"".join(map(record, [1, 1, 0, 0, 0]))) == [1, 1, 0, 0, 0]
    assert cores.classes(b"") == []
    assert cores.classes(bytes(30)) == [0, 0, 0]  # lengths of nothing end, too


def test_numa_nodes_are_those_with_cores_of_ours(linux: Files) -> None:
    nodes = {f"sys/devices/system/node/node{i}/cpulist": f"{2 * i}-{2 * i + 1}" for i in range(4)}
    linux({"cpus": 4, **nodes})
    assert cores.numa_nodes() == 2


@pytest.mark.parametrize(
    ("files", "quota", "threads"),
    [
        ({}, None, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None, None),
        ({"sys/fs/cgroup/cpu.max": "400000 100000"}, 4.0, 4),
        ({"sys/fs/cgroup/cpu.max": "250000 100000"}, 2.5, 3),
        ({"sys/fs/cgroup/cpu.max": "10000 100000"}, 0.1, 1),
        ({"sys/fs/cgroup/cpu.max": "9900000 100000"}, 99.0, None),
        ({"sys/fs/cgroup/a/cpu.max": "200000 100000", "proc/self/cgroup": "0::/a/b"}, 2.0, 2),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "proc/self/cgroup": "7:memory:/x\n4:cpu,cpuacct:/x",
            },
            1.5,
            2,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "proc/self/cgroup": "4:cpu:/",
            },
            None,
            None,
        ),
    ],
)
def test_a_container_s_share(
    linux: Files, files: dict[str, object], quota: float | None, threads: int | None
) -> None:
    """A container of 4 CPUs on a host of 64 gets 4 threads; both versions of control groups."""
    linux({"cpus": 64, "proc/self/cgroup": "0::/", **topology(*map(str, range(64))), **files})
    assert cgroup.cpu_quota() == quota
    assert cores.granted() == threads


def test_a_container_s_memory(linux: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_memory", lambda: (8 * 10**9, 4 * 10**9))
    linux({"cpus": 1, "proc/self/cgroup": "0::/pod/me"})
    assert machine.memory() == (8 * 10**9, 4 * 10**9)
    linux(
        {
            "cpus": 1,
            "sys/fs/cgroup/pod/memory.max": 2 * 10**9,
            "sys/fs/cgroup/pod/memory.current": 5,
            "sys/fs/cgroup/pod/me/memory.max": "max",
        }
    )
    assert machine.memory() == (2 * 10**9, 2 * 10**9 - 5)
