"""A replica: paints one picture at a time, and tells how far it is."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import ray
from ray import serve
from ray.exceptions import RayError

from pleinair.runtime.errors import PleinairError

from .. import process
from ..asked import Asked
from ..errors import Closing
from ..job import Job, Status
from ..models import Models
from ..service import Service
from ..settings import Settings

log = logging.getLogger("pleinair.serve")

_MODELS = 3
"""Models that a replica keeps: Ray sends a request to one that has its model already."""
_MOST = 8
"""Pictures that it lets wait: another comes before the one that was cancelled has stopped."""
_EVERY = 15.0
"""Seconds from one word of a picture to the next, at most."""
_TICK = 1.0
"""Seconds from one look at whether the ingress lives to the next."""
_NAMESPACE = "serve"
"""Where Ray Serve names its actors."""


class Replica:
    """The service of one machine with one worker: one picture at a time, whatever it is sent.

    It is there for requests once the first model is warm.
    """

    def __init__(self, setup: Settings) -> None:
        process.settle()
        models = Models.of(replace(setup, workers=1))
        models.warm(setup.warm)
        self._service = Service(models, most=_MOST)

    @serve.multiplexed(max_num_models_per_replica=_MODELS)  # type: ignore[untyped-decorator]
    async def opened(self, name: str) -> "Opened":
        """What Ray knows a model by that this replica has."""
        return Opened(self._service.models, name)

    async def paint(self, asked: Asked, previews: int, waiting: str) -> AsyncIterator[Status]:
        """How far the picture of a request is, until it is over; each preview is told once.

        waiting: the name of the actor that is told. Cancelled, or once that actor is dead, it stops
        within a step.
        """
        await self.opened(serve.get_multiplexed_model_id())
        try:
            job = await self._service.submit(asked, "ingress", previews=previews)
        except Closing:
            raise  # another replica paints it
        except PleinairError as error:
            yield Status(state="failed", error=str(error))
            return
        told = 0
        watching = asyncio.create_task(self._cancel_without(waiting, job))
        try:
            async for status in job.follow(_EVERY):
                yield status if status.previewed > told else replace(status, preview=None)
                told = status.previewed
        finally:
            watching.cancel()
            self._service.cancel(job)

    async def _cancel_without(self, waiting: str, job: Job) -> None:
        """End a job once the actor that waits for it is dead: Ray itself lets it go on."""
        while await asyncio.to_thread(_lives, waiting):
            await asyncio.sleep(_TICK)
        log.warning("job %s: who waited for it is dead", job.id)
        self._service.cancel(job)

    def check_health(self) -> None:
        """Ray starts it anew where this raises."""
        if not self._service.healthy:
            raise RuntimeError("its worker has ended")

    async def __del__(self) -> None:
        """Ray has let it finish what it was at."""
        await self._service.close(0.0)


def _lives(actor: str) -> bool:
    """Whether an actor of that name is there; it counts as alive while Ray cannot be asked."""
    try:
        ray.get_actor(actor, namespace=_NAMESPACE)
    except ValueError:
        return False
    except RayError:
        return True
    return True


class Opened:
    """A model that a replica has; Ray calls `__del__` when it makes room for another."""

    def __init__(self, models: Models, name: str) -> None:
        self._models, self._name = models, name

    def __del__(self) -> None:
        self._models.forget(self._name)
