"""Connected to a Ray cluster, or to one of this machine's cores, for as long as a command runs."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator

import ray


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """That of RAY_ADDRESS, the one that runs here, or one that ends with the block.

    The command's own way with signals stays: Ray puts another in its place.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it tells nobody how it is used
    before = signal.getsignal(signal.SIGTERM)
    ray.init(log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()
