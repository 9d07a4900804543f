"""What OpenAI's clients are answered: a body with all pictures, or a stream of events."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from ...errors import Refusal
from ...job import Job, Picture, Status
from ...pictures import encoded, text
from ...usage import Usage
from ..errors import openai
from ..files import Files
from ..waiting import HEARTBEAT, event, failure, following
from .request import Images


class Withheld(Refusal):
    """The model's safety checker has found nothing fit to be shown."""

    code = "content_policy_violation"


def body_of(
    status: Status, job: Job, fields: Images, files: Files, url: Callable[[str], str]
) -> bytes:
    """The body for a job that is done.

    url: the address of a file by its name. Raises Withheld.
    """
    shown = [status.pictures[index] for index in sorted(status.pictures)]
    data = []
    for index, picture in enumerate(shown):
        if picture.image is None:
            continue
        file = encoded(picture.image, picture.info, fields.format, fields.output_compression)
        where = (
            {"url": url(files.add(file, fields.format))}
            if fields.response_format == "url"
            else {"b64_json": text(file)}
        )
        data.append({**where, "index": index, "seed": picture.seed})
    if not data:
        raise Withheld("the model's safety checker withholds what was painted", param="prompt")
    answer = {
        "created": int(job.created),
        "data": data,
        **_described(_first(shown), fields),
        "usage": _usage(Usage.total(job.usage, job.asked.of_each)),
    }
    return json.dumps(answer).encode()


async def events(job: Job, fields: Images, kind: str) -> AsyncIterator[bytes]:
    """Partial pictures as they come, each picture when it is done, and signs of life.

    kind: "image_generation" or "image_edit".
    """
    yield HEARTBEAT
    sent, partials, status = set[int](), Partials(fields.partial_images or 0), job.status
    async with following(job) as changes:
        async for status in changes:
            pieces = []
            if partials.due(status):
                assert status.preview is not None
                partial = {"partial_image_index": partials.number - 1}
                picture = Picture(image=status.preview, seed=0, info={})
                pieces.append(await _told(f"{kind}.partial_image", picture, job, fields, **partial))
            for index in sorted(status.pictures.keys() - sent):
                sent.add(index)
                picture = status.pictures[index]
                usage = _usage(job.usage[index // job.asked.of_each])
                pieces.append(await _told(f"{kind}.completed", picture, job, fields, usage=usage))
            for piece in pieces or [HEARTBEAT]:
                yield piece
    if status.state != "done":
        code, message = failure(status)
        yield event("error", openai(code, message, None, status.state))


class Partials:
    """Which previews are sent: no more than so many of each picture."""

    def __init__(self, most: int) -> None:
        self.most, self.number = most, 0
        self._index, self._seen = 0, 0

    def due(self, status: Status) -> bool:
        """Whether there is a new one, and room for it; it then counts."""
        if status.index != self._index:
            self._index, self.number = status.index, 0
        new = status.previewed > self._seen and status.preview is not None
        self._seen = status.previewed
        if not new or self.number >= self.most:
            return False
        self.number += 1
        return True


async def _told(name: str, picture: Picture, job: Job, fields: Images, **more: Any) -> bytes:
    """An event with a picture; an error where it is withheld."""
    if picture.image is None:
        message = "the model's safety checker withholds what was painted"
        return event("error", openai(400, message, "prompt", Withheld.code))
    file = await asyncio.to_thread(
        encoded, picture.image, picture.info, fields.format, fields.output_compression
    )
    about = {"quality": "auto", **_described(picture, fields)}
    data = {"type": name, "b64_json": text(file), "created_at": int(job.created), **about, **more}
    return event(name, data)


def _usage(usage: Usage) -> dict[str, Any]:
    """As OpenAI says it."""
    read = usage.text + usage.image
    return {
        "input_tokens": read,
        "input_tokens_details": {"text_tokens": usage.text, "image_tokens": usage.image},
        "output_tokens": usage.painted,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": usage.painted},
        "total_tokens": read + usage.painted,
    }


def _described(picture: Picture, fields: Images) -> dict[str, Any]:
    """What a picture is, for whoever asked for something near it."""
    quality = {"quality": fields.quality} if fields.quality else {}
    size = {} if picture.image is None else {"size": "{}x{}".format(*picture.image.size)}
    return {"background": "opaque", "output_format": fields.format, **quality, **size}


def _first(pictures: list[Picture]) -> Picture:
    return next(picture for picture in pictures if picture.image is not None)
