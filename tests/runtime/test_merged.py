"""Graphs changed by LoRA files are kept as files: merged once, a few at a time, or not at all."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pleinair.runtime.engines import merged
from pleinair.runtime.engines.merged import MergedGraphs


def writer(size: int = 100) -> tuple[Callable[[Path], None], list[Path]]:
    written: list[Path] = []

    def write(file: Path) -> None:
        file.write_text("<net></net>")
        file.with_suffix(".bin").write_bytes(bytes(size))
        written.append(file)

    return write, written


def test_what_is_kept_is_not_merged_again(tmp_path: Path) -> None:
    graphs, (write, written) = MergedGraphs(tmp_path / "merged"), writer()
    first = graphs.graph("a", 100, write)
    assert first == tmp_path / "merged" / "a" / "openvino_model.xml"
    assert first.with_suffix(".bin").stat().st_size == 100
    assert graphs.graph("a", 100, write) == first
    assert graphs.graph("b", 100, write) != first
    assert len(written) == 2
    assert sorted(one.name for one in graphs.folder.iterdir()) == ["a", "b"]


def test_what_was_used_longest_ago_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged, "_MOST", 350)
    graphs, (write, _) = MergedGraphs(tmp_path), writer()
    for number, name in enumerate("abc"):
        made = graphs.graph(name, 100, write)
        assert made is not None
        os.utime(made, (number, number))
    graphs.graph("a", 100, write)  # used again
    graphs.graph("d", 100, write)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "c", "d"]


def test_what_fails_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(file: Path) -> None:
        file.write_text("half of it")
        raise OSError(28, "No space left on device")

    with caplog.at_level(logging.WARNING, "pleinair"):
        assert MergedGraphs(tmp_path / "merged").graph("a", 100, fail) is None
    assert list((tmp_path / "merged").iterdir()) == []
    assert "No space left" in caplog.text
    assert len(caplog.records) == 1


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    write, written = writer()
    assert MergedGraphs(tmp_path).graph("a", 1 << 60, write) is None
    assert not written


def test_of_two_processes_one_keeps_it(tmp_path: Path) -> None:
    graphs, (write, written) = MergedGraphs(tmp_path), writer()

    def late(file: Path) -> None:
        graphs.graph("a", 100, write)
        write(file)

    assert graphs.graph("a", 100, late) == tmp_path / "a" / "openvino_model.xml"
    assert len(written) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
