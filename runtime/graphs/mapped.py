"""Weights mapped from a file, which an engine reads once and packs into a form of its own."""

import contextlib
import ctypes
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_DONTNEED = 4  # MADV_DONTNEED of <sys/mman.h>, on every architecture of Linux
_EVERY = 0.1  # seconds
_MAPS = Path("/proc/self/maps")

_locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
_making_locks = threading.Lock()

Span = tuple[int, int]
"""The first address, and the one after the last."""


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Keep other threads from mapping `file`, as long as all of them ask here."""
    with _making_locks:
        lock = _locks[str(file.resolve())]
    with lock:
        yield


@contextlib.contextmanager
def read_once(file: Path) -> Iterator[None]:
    """While an engine packs the weights in `file`, and at the end, let go of the pages it has read.

    Linux counts them as resident until memory is short: every weight twice. A page that is touched
    again comes back from the system's own cache of the file. Other systems are left alone.

    What maps the file inside the block has to be held until the block's end. Dropped before, its
    addresses may be another thread's memory by the time they are let go of, and be lost.
    """
    if sys.platform != "linux":
        yield
        return
    done = threading.Event()
    with alone(file):
        others = spans(file)

        def let_go() -> None:
            for span in spans(file) - others:
                release(*span)

        def watch() -> None:
            while not done.wait(_EVERY):
                let_go()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            let_go()


def release(begin: int, end: int) -> None:
    """Give back the pages of a mapped file between two addresses, which nobody has written to."""
    ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONTNEED)


def spans(file: Path) -> set[Span]:
    """Where this process has `file` mapped with nothing in memory that the file has not.

    Nowhere, where the system does not say.
    """
    name = str(file.resolve())
    return {
        one.span
        for one in mappings()
        if one.file == name and not ("w" in one.access and one.private)
    }


class Mapping(NamedTuple):
    """A part of a file that this process has mapped. access: as Linux says it, such as r--p."""

    span: Span
    access: str
    file: str

    @property
    def private(self) -> bool:
        """Whether what is written there stays with this process."""
        return self.access.endswith("p")


def mappings() -> Iterator[Mapping]:
    """Those of files; none where the system does not say."""
    if sys.platform != "linux":
        return
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        addresses, access, _, _, inode, *file = line.split(maxsplit=5)
        if inode != "0":
            begin, _, end = addresses.partition("-")
            yield Mapping((int(begin, 16), int(end, 16)), access, "".join(file))
