"""The ingress: the service's queue and its APIs, with replicas to paint."""

from typing import Any

from ray.serve.handle import DeploymentHandle

from ..app import create_app
from ..service import Service
from ..settings import Settings
from .remote import Remote

LINGER = 10.0
"""Seconds beside --drain before Ray kills what does not end."""


class Ingress:
    """The service as on one machine; `serve.ingress` puts its application before Ray's proxies."""

    def __init__(self, setup: Settings, replicas: DeploymentHandle) -> None:
        self._setup = setup
        # Ray starts a new version while the one before it drains.
        patience = setup.drain + LINGER
        self._service = Service.of(setup, Remote(replicas).picture, patience)
        self._service.begin()

    def __serve_build_asgi_app__(self) -> Any:
        return create_app(self._service, self._setup)

    def check_health(self) -> None:
        """Ray starts it anew where this raises."""
        if not self._service.healthy:
            raise RuntimeError("a worker has ended")

    async def drain(self) -> None:
        """Take no new work; what replicas are at is finished, or handed back in time."""
        await self._service.close(self._setup.drain)
