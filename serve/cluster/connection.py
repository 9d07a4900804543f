"""Connected to a Ray cluster, or to one of this machine's cores, for as long as a command runs."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator

import ray

from pleinair.runtime.errors import SettingError, shown

_ADDRESS = "RAY_ADDRESS"
_PATIENCE = 10.0
"""Seconds for a cluster to answer: Ray itself tries for minutes."""


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """That of RAY_ADDRESS, the one that runs here, or one that ends with the block.

    The command's own way with signals stays: Ray puts another in its place.
    Raises SettingError where no cluster answers.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it tells nobody how it is used
    address = os.environ.get(_ADDRESS, "")
    _check(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    except ConnectionError as error:
        raise _no_cluster(address) from error
    signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Raises SettingError where nothing listens at an address of the form HOST:PORT."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address) from error


def _no_cluster(address: str) -> SettingError:
    what = f"{_ADDRESS} is {shown(address)}" if address else "the cluster that was started here"
    return SettingError(
        f"{what}: no Ray cluster answers; start one there, or set {_ADDRESS} to local for this "
        "machine's cores"
    )
