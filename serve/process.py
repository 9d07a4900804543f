"""What a process that serves for months is told before it computes."""

import os

_KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_MOST = 64


def settle() -> None:
    """Let oneDNN keep few kernels, unless the environment says how many.

    It keeps 1,024 for when the same are wanted again: pictures of ever new sizes added up to half a
    gigabyte, which stayed when their graphs were gone. Those of one graph are shared all the same.
    Only for processes in which nothing else computes by oneDNN: torch finds its kernels there.
    """
    os.environ.setdefault(_KERNELS, str(_MOST))
