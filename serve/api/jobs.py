"""Jobs in Pleinair's own terms: submitted, listed, followed, cancelled, and fetched."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ..access import Keys, client_of
from ..bounds import PICTURES
from ..errors import Unknown
from ..job import Job, Status
from ..pictures import encoded, text
from ..service import Service
from ..settings import Settings
from .fields import asked, job_model
from .waiting import HEARTBEAT, Stream, event, following

_PREVIEWS = 2
"""Steps from one preview to the next, while somebody watches."""
_PREVIEW_QUALITY = 80


def router(service: Service, settings: Settings, keys: Keys) -> APIRouter:
    """keys: where there are any, a job is its key's alone; else whoever knows its id has it."""
    made = APIRouter(prefix="/v1/jobs", tags=["jobs"])
    asked_for: Any = job_model(service.models, settings)

    async def known(request: Request, id: str) -> Job:
        job = await asyncio.to_thread(service.job, id)
        if keys and job.client != client_of(request):
            raise Unknown("there is no such job here", param="id")
        return job

    @made.post("", status_code=202)
    async def submit(
        request: Request,
        fields: asked_for,
    ) -> dict[str, Any]:
        """Pictures that are painted whether somebody waits or not, after a restart, too."""
        wanted = await asyncio.to_thread(asked, fields, settings)
        job = await service.submit(wanted, client_of(request), kept=True, previews=_PREVIEWS)
        return await asyncio.to_thread(described, service, job)

    @made.get("")
    async def listed(
        request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> dict[str, Any]:
        """The client's own jobs, the newest first; of their pictures the addresses."""

        def found() -> list[dict[str, Any]]:
            jobs = service.listed(client_of(request), limit)
            return [described(service, job, brief=True) for job in jobs]

        return {"object": "list", "data": await asyncio.to_thread(found)}

    @made.get("/{id}")
    async def one(request: Request, id: str) -> dict[str, Any]:
        """How far a job is."""
        return await asyncio.to_thread(described, service, await known(request, id))

    @made.delete("/{id}")
    async def cancel(request: Request, id: str) -> dict[str, Any]:
        """Cancel it: what is in work stops within a step; one that is over stays as it is."""
        job = await known(request, id)
        await asyncio.to_thread(service.cancel, job)
        return await asyncio.to_thread(described, service, job)

    @made.get(
        "/{id}/events",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def events(request: Request, id: str) -> Response:
        """What happens to it, as server-sent events, from now on and until it is over.

        queued, progress, preview, picture, and at last done, failed or cancelled. Whoever comes
        again is told of each picture again.
        """
        return Stream(_events(service, await known(request, id)), "text/event-stream")

    @made.get(
        "/{id}/pictures/{index}.png",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    async def picture(request: Request, id: str, index: int) -> Response:
        """A finished picture, which says in its file how it was made."""
        job = await known(request, id)
        data = await asyncio.to_thread(_png, job, index)
        return Response(data, media_type="image/png")

    return made


def _png(job: Job, index: int) -> bytes:
    found = job.status.pictures.get(index)
    if found is None or found.image is None:
        raise Unknown("there is no such picture, or not yet", param="index")
    return encoded(found.image, found.info)


def described(service: Service, job: Job, *, brief: bool = False) -> dict[str, Any]:
    """A job as its client sees it: what was asked, pictures aside, and how far it is.

    brief: of its pictures no more than where they are.
    """
    status, wanted = job.status, job.asked
    arguments = {name: value for name, value in wanted.arguments.items() if name not in PICTURES}
    pictures = [
        {"index": index, "url": _address(job, index)} if brief else _picture(job, status, index)
        for index in sorted(status.pictures)
    ]
    return {
        "id": job.id,
        "object": "job",
        "created": job.created,
        "started": status.started,
        "ended": status.ended,
        "model": wanted.model,
        "profile": wanted.profile,
        "loras": [{"name": name, "weight": weight} for name, weight in wanted.loras],
        "controlnets": [{"name": name, "weight": weight} for name, weight in wanted.controlnets],
        "number": wanted.number,
        "seed": wanted.seed,
        "arguments": arguments,
        **_state(service, job, status),
        "pictures": pictures,
    }


def _state(service: Service, job: Job, status: Status) -> dict[str, Any]:
    """Where it stands in the queue, or how far it is. seconds: until its end; null is not known."""
    state: dict[str, Any] = {"state": status.state, "progress": round(status.progress, 4)}
    if status.over:
        return {**state, "error": status.error}
    place = service.place(job)
    seconds = None if place.seconds is None else round(place.seconds, 1)
    return {**state, "error": None, "ahead": place.ahead, "seconds": seconds}


def _picture(job: Job, status: Status, index: int) -> dict[str, Any]:
    picture = status.pictures[index]
    return {
        "index": index,
        "seed": picture.seed,
        "withheld": picture.image is None,
        "url": _address(job, index),
        "info": _plain(picture.info),
        "seconds": round(picture.seconds, 3),
    }


def _address(job: Job, index: int) -> str:
    return f"/v1/jobs/{job.id}/pictures/{index}.png"


def _plain(info: Mapping[str, object]) -> dict[str, object]:
    """What can be written as JSON."""
    return {
        name: value if isinstance(value, str | int | float | bool | list) else str(value)
        for name, value in info.items()
    }


async def _events(service: Service, job: Job) -> AsyncIterator[bytes]:
    sent, previewed = set[int](), 0
    async with following(job) as changes:
        async for status in changes:
            where = _state(service, job, status)
            if status.state == "waiting":
                yield event("queued", where)
            elif not status.over:
                stage = {"index": status.index, "stage": status.stage}
                steps = {"step": status.step, "steps": status.steps}
                yield event("progress", {**where, **stage, **steps})
            if status.preview is not None and status.previewed > previewed:
                previewed = status.previewed
                shown = await asyncio.to_thread(
                    encoded, status.preview, {}, "jpeg", _PREVIEW_QUALITY
                )
                yield event("preview", {"index": status.index, "jpeg": text(shown)})
            for index in sorted(status.pictures.keys() - sent):
                sent.add(index)
                yield event("picture", await asyncio.to_thread(_picture, job, status, index))
            if status.over:
                yield event(status.state, await asyncio.to_thread(described, service, job))
            else:
                yield HEARTBEAT
