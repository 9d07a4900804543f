"""`pleinair serve --ray`: the service on a Ray cluster until it is told to stop."""

import contextlib
import logging
import threading

from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from pleinair.runtime.errors import EngineError, SettingError, shown
from pleinair.runtime.exits import tell

from ..access import Keys
from ..models import Models
from ..settings import Settings
from .application import application
from .connection import connected

_NAME = "pleinair"
_LINGER = 30.0
"""Seconds beside --drain for the answer that all is drained."""


def run(setup: Settings) -> int:
    """Serve until Ctrl-C or SIGTERM. Raises PleinairError where it cannot begin."""
    if setup.port == 0:
        raise SettingError("--port is 0; with --ray give one that is free")
    Keys.read(setup.api_key_file)
    Models.of(setup)  # what is wrong with a model is told here, before a cluster is started
    service = application(setup)
    with connected():
        try:
            ingress = _begun(service, setup)
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


def _begun(service: Application, setup: Settings) -> DeploymentHandle:
    """The ingress, once it answers. Raises PleinairError where that does not come about."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    http = {"host": setup.host, "port": setup.port}
    try:
        serve.start(proxy_location="HeadOnly", http_options=http)
    except RayError as error:
        if "Failed to bind" not in str(error):
            raise
        where = f"--host {shown(setup.host)} --port {setup.port}"
        raise SettingError(f"{where}: Ray cannot listen there; choose another") from error
    try:
        return serve.run(service, name=_NAME)
    except RuntimeError as error:
        raise EngineError(f"the service does not start: {_reason() or error}") from error


def _reason() -> str:
    """What a replica or the ingress said that did not start; empty where it is not known."""
    applications = serve.status().applications
    deployments = applications[_NAME].deployments.values() if _NAME in applications else ()
    lines = (_last_line(one.message) for one in deployments)
    return next(filter(None, lines), "")


def _last_line(text: str) -> str:
    """Where a traceback says what is wrong, without the error's name."""
    lines = text.split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    name, colon, message = last.partition(": ")
    return message if colon and name.endswith("Error") else last
