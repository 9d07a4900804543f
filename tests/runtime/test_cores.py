"""The machine's CPU, and its physical cores where psutil is not there to tell."""

import os
import sys
from pathlib import Path

import pytest

from pleinair.runtime.speed import machine

# Two cores with two hardware threads each, as /proc/cpuinfo puts it.
CPUINFO = "\n\n".join(
    f"processor\t: {thread}\nmodel name\t: Plain CPU @ 2:1\nphysical id\t: 0\n"
    f"core id\t\t: {thread % 2}"
    for thread in range(4)
)


def test_hardware_threads_are_not_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    file = tmp_path / "cpuinfo"
    file.write_text(CPUINFO, encoding="utf-8")
    monkeypatch.setattr(machine, "Path", {"/proc/cpuinfo": file}.get)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert machine.physical_cores() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert machine.physical_cores() == 1
    assert machine.cpu_name() == "Plain CPU @ 2:1"


def test_a_silent_machine_still_has_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(machine, "Path", {"/proc/cpuinfo": tmp_path / "nowhere"}.get)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.physical_cores() == 1
