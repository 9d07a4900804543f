"""Weights mapped from a file, which an engine reads once and packs into a form of its own."""

import contextlib
import ctypes
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_DONTNEED = 4  # MADV_DONTNEED of <sys/mman.h>, on every architecture of Linux
_EVERY = 0.1  # seconds


@contextlib.contextmanager
def read_once(file: Path) -> Iterator[None]:
    """While an engine packs the weights in `file`, and at the end, let go of the pages it has read.

    Linux counts them as resident until memory is short: every weight twice. A page that is touched
    again comes back from the system's own cache of the file. Other systems are left alone.
    """
    if sys.platform != "linux":
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY):
            _let_go(file)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _let_go(file)


def release(begin: int, end: int) -> None:
    """Give back the pages of a mapped file between two addresses, which nobody has written to."""
    ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONTNEED)


def _let_go(file: Path) -> None:
    name = str(file.resolve())
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        span, access, *_, mapped = line.split(maxsplit=5)
        private = access.endswith("p")
        if mapped == name and not ("w" in access and private):  # only what the file has, too
            begin, end = (int(address, 16) for address in span.split("-"))
            release(begin, end)
