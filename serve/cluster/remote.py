"""Pictures painted by replicas: what the ingress has in the place of painting itself."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import ray
from ray import exceptions
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from pleinair.runtime.errors import PleinairError

from ..asked import Asked
from ..errors import Closing
from ..job import Picture
from ..queue import Turn
from ..workers import tell

log = logging.getLogger("pleinair.serve")

_MOST_LOST = 5
"""Replicas that may be lost over one picture: of more it is the picture's own fault."""
_PAUSE = 1.0
"""Seconds before it is sent to another: by then Ray knows which is gone."""
_TICK = 0.2
"""Seconds from one look at whether anybody still waits to the next."""
_PROGRESS = ("stage", "done", "total", "step", "steps")
_LOST = (
    exceptions.RayActorError,
    exceptions.NodeDiedError,
    exceptions.WorkerCrashedError,
    exceptions.ObjectLostError,
    exceptions.TaskCancelledError,
)
"""What a replica's end looks like from here."""
_NOT_NOW = (BackPressureError, DeploymentUnavailableError, Closing)
"""Where no replica takes a picture at the moment, which is not the picture's fault."""


class Remote:
    """Hands turns to replicas; any number of threads may do so at once.

    Made in the actor that waits for the pictures: once that is dead, replicas leave off.
    """

    def __init__(self, replicas: DeploymentHandle) -> None:
        self._waiting = ray.get_runtime_context().get_actor_name()
        self._replicas = replicas.options(stream=True)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="pleinair-remote", daemon=True).start()

    def picture(self, turn: Turn, check: Callable[[], None]) -> Picture:
        """A turn's picture, painted by one replica, or where that is lost by another.

        check: raises Stopped when nobody waits any more, which is passed on.
        Raises PleinairError where the picture cannot be painted.
        """
        painting = self._painted(turn, check)
        return asyncio.run_coroutine_threadsafe(painting, self._loop).result()

    async def _painted(self, turn: Turn, check: Callable[[], None]) -> Picture:
        """By one replica after the other, until one lives to finish it."""
        lost = 0
        while lost < _MOST_LOST:
            try:
                return await self._painted_by_one(turn, check)
            except _NOT_NOW as error:
                log.info("job %s: no replica takes it: %s", turn.job.id, type(error).__name__)
            except _LOST as error:
                lost += 1
                log.warning("job %s: a replica is lost: %s", turn.job.id, type(error).__name__)
                tell(turn, stage="", step=0, preview=None)
            await asyncio.sleep(_PAUSE)
            check()
        raise PleinairError(f"{lost} replicas were lost over this picture; their logs say why")

    async def _painted_by_one(self, turn: Turn, check: Callable[[], None]) -> Picture:
        """Raises what there is in _LOST and _NOT_NOW, too; a replica left early stops painting."""
        asked = _alone(turn)
        replicas = self._replicas.options(multiplexed_model_id=asked.model)
        response = replicas.paint.remote(asked, turn.job.previews, self._waiting)
        reading = asyncio.ensure_future(_read(response, turn))
        watching = asyncio.ensure_future(_watch(check))
        try:
            await asyncio.wait([reading, watching], return_when=asyncio.FIRST_COMPLETED)
            if reading.cancelled():
                raise exceptions.RayActorError(error_msg="a replica left off")
            return await (reading if reading.done() else watching)
        finally:
            watching.cancel()
            if not reading.done():
                await asyncio.to_thread(response.cancel)
                reading.cancel()


def _alone(turn: Turn) -> Asked:
    """A turn's picture as a request of its own."""
    arguments = turn.job.asked.call(turn.index)
    seed = arguments.pop("seed")
    return replace(turn.job.asked, number=1, arguments=arguments, seed=seed)


async def _read(response: Any, turn: Turn) -> Picture:
    """The picture, once it is there; until then the job is told how far it is."""
    async for status in response:
        if status.state == "failed":
            raise PleinairError(status.error)
        if status.pictures:
            picture: Picture = status.pictures[0]
            return picture
        progress = {name: getattr(status, name) for name in _PROGRESS}
        if status.preview is not None:
            progress |= {"preview": status.preview, "previewed": turn.job.status.previewed + 1}
        tell(turn, **progress)
    raise exceptions.RayActorError(error_msg="a replica left off")


async def _watch(check: Callable[[], None]) -> NoReturn:
    """Raise Stopped soon after nobody waits for the picture any more."""
    while True:
        check()
        await asyncio.sleep(_TICK)
