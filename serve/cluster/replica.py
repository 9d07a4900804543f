"""A replica: paints one picture at a time, and tells how far it is."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace

from ray import serve

from ..asked import Asked
from ..job import Status
from ..service import Service
from ..settings import Settings

log = logging.getLogger("pleinair.serve")

_MODELS = 3
"""Models that a replica keeps: Ray sends a request to one that has its model already."""
_EVERY = 15.0
"""Seconds from one word of a picture to the next, at most."""


class Replica:
    """One machine's service, with one worker: one picture at a time, whatever it is sent."""

    def __init__(self, setup: Settings) -> None:
        self._setup = setup
        self._service = Service.of(replace(setup, workers=1))
        self._service.begin(setup.warm)

    @serve.multiplexed(max_num_models_per_replica=_MODELS)
    async def opened(self, name: str) -> "Opened":
        """What Ray knows a model by that this replica has."""
        return Opened(self._service, name)

    async def paint(self, asked: Asked, previews: int) -> AsyncIterator[Status]:
        """How far the first picture of a request is, until it is over.

        A preview is told once. Cancelled, it stops within a step.
        """
        await self.opened(serve.get_multiplexed_model_id())
        job = await self._service.submit(asked, "ingress", previews=previews)
        told = 0
        try:
            async for status in job.follow(_EVERY):
                yield status if status.previewed > told else replace(status, preview=None)
                told = status.previewed
        finally:
            self._service.cancel(job)

    async def __del__(self) -> None:
        """Ray has let it finish what it was at."""
        await self._service.close(0.0)


class Opened:
    """A model that a replica has; Ray calls `__del__` when it makes room for another."""

    def __init__(self, service: Service, name: str) -> None:
        self._service, self._name = service, name

    def __del__(self) -> None:
        self._service.models.forget(self._name)
