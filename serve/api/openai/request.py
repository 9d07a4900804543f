"""What OpenAI's clients ask, in the service's terms."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pleinair.runtime import Pipeline
from pleinair.runtime.errors import shown
from pleinair.runtime.options.option import declared
from pleinair.runtime.record import metadata

from ...asked import Asked
from ...errors import Refusal
from ...pictures import Format, edited
from ...service import Service

VARIATION = 0.6
"""How far a variation is from its picture: image to image at this strength."""

_THEIRS = re.compile(r"(dall-e|gpt-image|chatgpt-image)", re.IGNORECASE)
"""Models of OpenAI's, which some programs name whatever the server: the first model stands in."""
_SIZE = re.compile(r"(\d{1,5})\s*[x×*]\s*(\d{1,5})", re.IGNORECASE)
_PASSED = ("negative_prompt", "num_inference_steps", "guidance_scale", "scheduler")


class Images(BaseModel):
    """What generations, edits and variations have in common; other fields are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    prompt: str = Field("", description="what is to be seen; <lora:name:0.8> names a LoRA file")
    model: str | None = Field(None, description="of /v1/models; OpenAI's own names are the first")
    n: int | None = Field(
        None, ge=1, description="how many pictures, painted from a seed more each"
    )
    size: str | None = Field(None, description="auto, or WIDTHxHEIGHT, rounded to what fits")
    response_format: Literal["b64_json", "url"] | None = Field(None)
    output_format: Format | None = Field(None)
    output_compression: int | None = Field(
        None, ge=0, le=100, description="quality of JPEG and WebP files"
    )
    stream: bool | None = Field(None, description="server-sent events")
    partial_images: int | None = Field(None, ge=0, le=3, description="previews in a stream")
    quality: str | None = Field(None, description="repeated in the answer, and no more")
    negative_prompt: str | None = Field(None, description="OpenVINO Model Server's: what to avoid")
    num_inference_steps: int | None = Field(None, description="OpenVINO Model Server's: steps")
    guidance_scale: float | None = Field(None, description="OpenVINO Model Server's")
    rng_seed: int | None = Field(None, description="OpenVINO Model Server's: as seed")
    seed: int | None = Field(None, description="-1 and null draw one")
    strength: float | None = Field(
        None, description="OpenVINO Model Server's: how far a picture is changed, above 0 to 1"
    )
    max_sequence_length: int | None = Field(
        None, description="OpenVINO Model Server's: of models that have it; ignored by others"
    )
    scheduler: str | None = Field(None, description="the solver")

    @model_validator(mode="before")
    @classmethod
    def _given(cls, fields: Any) -> Any:
        """An empty field of a form is not given."""
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value != "" or name == "prompt"}

    @property
    def format(self) -> Format:
        return self.output_format or "png"


class Generation(Images):
    """The body of /v1/images/generations."""

    prompt: str = Field(description="what is to be seen; <lora:name:0.8> names a LoRA file")


@dataclass(frozen=True)
class Sent:
    """The pictures of a request, read. mask: of the only image."""

    images: Sequence[Image.Image] = ()
    mask: Image.Image | None = None


@dataclass(frozen=True)
class Prepared:
    """What is asked, and the steps that it will take: how often a preview may be made."""

    asked: Asked
    steps: int = field(default=20)

    def previews(self, wanted: int) -> int:
        """Steps from one preview to the next, so that there are as many as wanted."""
        return max(1, self.steps // (wanted + 1)) if wanted else 0


async def prepared(service: Service, fields: Images, sent: Sent, *, vary: bool = False) -> Prepared:
    """What a request asks for. Raises Refusal and PleinairError.

    vary: the picture itself is to be painted again, a little different.
    """
    model = None if fields.model is None or _THEIRS.match(fields.model) else fields.model
    pipe = await asyncio.to_thread(service.models.pipeline, Asked(model=model))
    arguments = {"prompt": fields.prompt, **sized(fields.size, pipe.family.multiple)}
    passed = {name: getattr(fields, name) for name in _PASSED}
    arguments |= {name: value for name, value in passed.items() if value is not None}
    if fields.max_sequence_length and "max_sequence_length" in declared(pipe.family.options):
        arguments["max_sequence_length"] = fields.max_sequence_length
    if sent.images:
        arguments |= _varied(sent.images[0], pipe, fields) if vary else _edited(sent, fields)
    asked = Asked(
        model=model,
        arguments=arguments,
        number=(fields.n or 1) * max(1, len(sent.images)),
        seed=fields.seed if fields.rng_seed is None else fields.rng_seed,
    )
    return Prepared(asked, fields.num_inference_steps or pipe.family.recommended.steps or 20)


def sized(text: str | None, multiple: int) -> Mapping[str, int]:
    """Width and height, rounded to what the model can paint; none where it is to choose."""
    if text is None or text.strip().lower() == "auto":
        return {}
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise Refusal(
            f"size is {shown(text)!r}; give auto, or a size such as 512x512", param="size"
        )
    width, height = (max(1, round(int(side) / multiple)) * multiple for side in found.groups())
    return {"width": width, "height": height}


def _edited(sent: Sent, fields: Images) -> Mapping[str, Any]:
    """Each picture is changed for itself: no model here looks at several for one."""
    masks = [edited(image, sent.mask) for image in sent.images]
    pictures: dict[str, Any] = {"image": list(sent.images), "mask_image": masks}
    if len(sent.images) == 1:
        pictures = {"image": sent.images[0], "mask_image": masks[0]}
    strength = {} if fields.strength is None else {"strength": fields.strength}
    return {**pictures, **strength}


def _varied(image: Image.Image, pipe: Pipeline, fields: Images) -> Mapping[str, Any]:
    """Image to image, by the prompt that a picture painted here says in its file."""
    before = metadata.of_picture(image)
    prompt = fields.prompt or str(before.get("prompt", ""))
    changed = {"strength": fields.strength or VARIATION} if pipe.family.task == "text" else {}
    return {"image": image, "prompt": prompt, **changed}
