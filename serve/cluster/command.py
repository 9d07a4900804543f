"""`pleinair serve --ray`: the service on a Ray cluster until it is told to stop."""

import contextlib
import logging
import threading

from ray import serve

from pleinair.runtime.exits import tell

from ..settings import Settings
from .application import application
from .connection import connected

_NAME = "pleinair"
_LINGER = 30.0
"""Seconds beside --drain for the answer that all is drained."""


def run(setup: Settings) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    with connected():
        http = {"host": setup.host, "port": setup.port}
        serve.start(proxy_location="HeadOnly", http_options=http)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            ingress = serve.run(application(setup), name=_NAME)
            few, many = setup.min_replicas, setup.replicas
            tell(f"http://{setup.host}:{setup.port}: {few} to {many} replicas; Ctrl-C stops")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
            tell(f"stopping: pictures in work have {setup.drain:g} seconds")
            ingress.drain.remote().result(timeout_s=setup.drain + _LINGER)
        finally:
            serve.delete(_NAME)
    tell("stopped")
    return 0
