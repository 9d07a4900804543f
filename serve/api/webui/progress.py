"""How far a client's pictures are, and ending them."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from PIL import Image

from ... import pictures
from ...access import client_of
from .answers import stamp
from .batch import Batch
from .server import Server

_BEGUN = 0.01
"""What webui shows from the beginning on: 0 is nothing to do."""


def router(server: Server) -> APIRouter:
    made = APIRouter()

    @made.get("/progress")
    async def progress(request: Request, skip_current_image: bool = False) -> dict[str, Any]:
        """Of the client's own pictures: nobody sees what others paint."""
        batch = server.batches.current(client_of(request))
        left = batch.left if batch else []
        if batch is None or not left:
            return {**_NOTHING, "state": _state(None)}
        preview = None
        if not skip_current_image and (image := _shown(batch)):
            preview = await asyncio.to_thread(_encoded, image)
        place, done = server.service.place(left[-1]), batch.progress
        return {
            "progress": max(_BEGUN, done),
            "eta_relative": _left(batch, done) if place.seconds is None else place.seconds,
            "state": _state(batch),
            "current_image": preview,
            "textinfo": f"{place.ahead} pictures come first" if place.ahead else None,
        }

    @made.post("/interrupt")
    async def interrupt(request: Request) -> dict[str, Any]:
        server.batches.interrupt(client_of(request))
        return {}

    @made.post("/skip")
    async def skip(request: Request) -> dict[str, Any]:
        server.batches.skip(client_of(request))
        return {}

    return made


_NOTHING: dict[str, Any] = {
    "progress": 0.0,
    "eta_relative": 0.0,
    "current_image": None,
    "textinfo": None,
}


def _state(batch: Batch | None) -> dict[str, Any]:
    """webui's state of a batch; None is none."""
    job = batch.current if batch else None
    status = job.status if job else None
    return {
        "skipped": bool(batch and batch.skipped),
        "interrupted": bool(batch and batch.interrupted),
        "stopping_generation": False,
        "job": batch.name if batch else "",
        "job_count": len(batch.jobs) if batch else 0,
        "job_timestamp": stamp(batch.created if batch else 0.0),
        "job_no": len(batch.jobs) - len(batch.left) if batch else 0,
        "sampling_step": status.step if status else 0,
        "sampling_steps": status.steps if status else 0,
    }


def _shown(batch: Batch) -> Image.Image | None:
    """What the picture in work looks like by now."""
    job = batch.current
    return job.status.preview if job else None


def _encoded(image: Image.Image) -> str:
    return pictures.text(pictures.encoded(image, {}))


def _left(batch: Batch, done: float) -> float:
    """Seconds, by what was done so far."""
    spent = time.time() - batch.created
    return spent / done - spent if done else 0.0
