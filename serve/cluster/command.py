"""`pleinair serve --ray`: the service on a Ray cluster until it is told to stop."""

import threading

from ray import serve

from pleinair.runtime.exits import tell

from ..settings import Settings
from .application import application
from .connection import connected

_NAME = "pleinair"
_LINGER = 30.0


def run(setup: Settings) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    with connected():
        serve.start(
            proxy_location="HeadOnly", http_options={"host": setup.host, "port": setup.port}
        )
        ingress = serve.run(application(setup), name=_NAME)
        tell(f"http://{setup.host}:{setup.port}: {setup.min_replicas} to {setup.replicas} replicas")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            tell(f"stopping: pictures in work have {setup.drain:g} seconds")
            ingress.drain.remote().result(timeout_s=setup.drain + _LINGER)
        finally:
            serve.delete(_NAME)
    tell("stopped")
    return 0
