"""Pages of mapped files, given back to the system once they were read.

A checkpoint is mapped, and what was read of it stays resident until the system wants the memory for
something else. That costs nobody anything, but counts as the process's, and limits of containers
and of users are held against that count. Where a system knows no such call, nothing is done.
"""

import bisect
import mmap
import sys

import torch

from pleinair.runtime.graphs import mapped


class MappedFiles:
    """Where this process has files mapped, as it was when this was made; nowhere if unknown."""

    def __init__(self) -> None:
        self._ranges = sorted(one.span for one in mapped.mappings() if one.private)

    def hold(self, value: torch.Tensor) -> bool:
        """Whether all of a tensor lies in one mapped file."""
        begin, end = _extent(value)
        i = bisect.bisect_right(self._ranges, (begin, sys.maxsize)) - 1
        return i >= 0 and end <= self._ranges[i][1]


def release(value: torch.Tensor) -> None:
    """Give back the pages of a tensor in a mapped file that nobody has written to.

    It is read from the file again when it is needed. Of a tensor that lies elsewhere the values
    would be lost: ask `MappedFiles` before.
    """
    begin, end = _extent(value)
    begin = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    end = end // mmap.PAGESIZE * mmap.PAGESIZE
    if sys.platform == "linux" and end > begin:
        mapped.release(begin, end)


def _extent(value: torch.Tensor) -> tuple[int, int]:
    """First address of a tensor's values, and the one after the last."""
    steps = zip(value.shape, value.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in steps if size)
    return value.data_ptr(), value.data_ptr() + (last + 1) * value.element_size()
