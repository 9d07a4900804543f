"""Pages of mapped weights are let go of, and nobody else's memory."""

import mmap
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pleinair.runtime.graphs import mapped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what is mapped")

SIZE = 64 * mmap.PAGESIZE


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "openvino_model.bin"
    file.write_bytes(b"x" * SIZE)
    return file


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[mapped.Span]]:
    """What was let go of; nothing really is."""
    spans: list[mapped.Span] = []
    monkeypatch.setattr(mapped, "release", lambda *span: spans.append(span))
    return spans


def opened(file: Path) -> mmap.mmap:
    with file.open("rb") as stream:
        made = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    assert made[0] == ord("x")
    return made


def resident(file: Path) -> int:
    """Kilobytes of a file that are counted as this process's."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    found, here = 0, False
    for line in lines:
        if "-" in line.split()[0]:
            here = line.endswith(str(file))
        elif here and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


def test_pages_are_let_go_of_and_come_back(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_EVERY", 60)  # at the end alone
    with mapped.read_once(weights):
        content = opened(weights)
        assert bytes(content) == b"x" * SIZE
        assert resident(weights) > 0
    assert resident(weights) == 0
    assert bytes(content) == b"x" * SIZE


def test_a_mapping_of_before_is_not_touched(weights: Path, released: list[mapped.Span]) -> None:
    """Its holder may drop it at any time, and what is mapped there next is somebody else's."""
    before = opened(weights)
    theirs = mapped.spans(weights)
    with mapped.read_once(weights):
        inside = opened(weights)
        ours = mapped.spans(weights) - theirs
    assert set(released) == ours
    assert ours
    before.close()
    inside.close()


def test_mappings_of_another_thread_wait(weights: Path, released: list[mapped.Span]) -> None:
    """A thread that would map the file does it after the block."""
    order = []

    def other() -> None:
        with mapped.alone(weights):
            order.append("other")

    thread = threading.Thread(target=other)
    with mapped.read_once(weights), ExitStack() as held:
        held.callback(opened(weights).close)
        thread.start()
        thread.join(0.2)
        order.append("ours")
    thread.join()
    assert order == ["ours", "other"]


def test_what_only_memory_has_is_kept(weights: Path) -> None:
    with mapped.read_once(weights):
        with weights.open("r+b") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        content[:4] = b"ours"
    assert content[:5] == b"oursx"
