"""Memory that was freed, and that the C library keeps for later."""

import ctypes
import sys


def give_back() -> None:
    """Return it to the system. glibc keeps most of what a dropped session of ONNX Runtime had.

    Other C libraries have no such call, or need none.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(ctypes.c_size_t(0))
