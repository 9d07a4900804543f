"""The ingress: the service's APIs and its queue, with replicas for workers."""

from typing import Any

from ray.serve.handle import DeploymentHandle

from ..app import create_app
from ..service import Service
from ..settings import Settings
from .remote import Remote


class Ingress:
    """The service as on one machine; `serve.ingress` puts its app before Ray's proxies."""

    def __init__(self, setup: Settings, replicas: DeploymentHandle) -> None:
        self._setup = setup
        self._service = Service.of(setup, paint=Remote(replicas).picture)

    def __serve_build_asgi_app__(self) -> Any:  # noqa: N807 (Ray asks for it by this name)
        return create_app(self._service, self._setup)

    async def drain(self) -> None:
        """Take no new work; what replicas are at is finished, or handed back in time."""
        await self._service.close(self._setup.drain)
