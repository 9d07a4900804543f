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
from .fields import Task
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
        return {
            "progress": max(_BEGUN, batch.progress),
            "eta_relative": _seconds(server, batch),
            "state": _state(batch),
            "current_image": preview,
            "textinfo": _ahead(server, batch),
            "current_task": batch.task,
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


def of_tasks(server: Server) -> APIRouter:
    """What webui's own page asks while it waits, by the id that the request was given."""
    made = APIRouter(prefix="/internal")

    @made.get("/pending-tasks")
    async def pending_tasks(request: Request) -> dict[str, Any]:
        """The client's own that are not over."""
        tasks = [batch.task for batch in server.batches.waiting(client_of(request))]
        return {"size": len(tasks), "tasks": tasks}

    @made.post("/progress")
    async def progress(request: Request, task: Task) -> dict[str, Any]:
        """Of one of the client's own tasks."""
        client = client_of(request)
        batches = server.batches.waiting(client)
        batch = next((one for one in batches if one.task == task.id_task), None)
        if batch is None:
            over = server.batches.is_over(client, task.id_task)
            return {**_UNKNOWN, "completed": over}
        if batch.left and not batch.working:
            return {**_UNKNOWN, "queued": True, "textinfo": _ahead(server, batch) or "Waiting..."}
        number, image = batch.previewed, _shown(batch)
        preview = None
        if task.live_preview and image and number != task.id_live_preview:
            preview = f"data:image/png;base64,{await asyncio.to_thread(_encoded, image)}"
        return {
            "active": True,
            "queued": False,
            "completed": False,
            "progress": max(_BEGUN, batch.progress),
            "eta": _seconds(server, batch),
            "live_preview": preview,
            "id_live_preview": number if preview else task.id_live_preview,
            "textinfo": None,
        }

    return made


_UNKNOWN: dict[str, Any] = {
    "active": False,
    "queued": False,
    "completed": False,
    "progress": None,
    "eta": None,
    "live_preview": None,
    "id_live_preview": -1,
    "textinfo": "Waiting...",
}
"""What is said of a task that is not in work."""
_NOTHING: dict[str, Any] = {
    "progress": 0.0,
    "eta_relative": 0.0,
    "current_image": None,
    "textinfo": None,
    "current_task": None,
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


def _seconds(server: Server, batch: Batch) -> float:
    """Until its end: by what pictures took before, else by what was done so far; 0 is unknown."""
    left, done = batch.left, batch.progress
    seconds = server.service.place(left[-1]).seconds if left else 0.0
    if seconds is not None:
        return seconds
    spent = time.time() - batch.created
    return spent / done - spent if done else 0.0


def _ahead(server: Server, batch: Batch) -> str | None:
    """How many pictures come before its last one, where any do."""
    ahead = server.service.place(batch.left[-1]).ahead if batch.left else 0
    return f"{ahead} pictures come first" if ahead else None
