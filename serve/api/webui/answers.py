"""What webui answers: pictures as base64, and JSON in a text about how they were made."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pleinair.runtime.record import infotext

from ... import pictures
from ...job import Picture
from .batch import Batch
from .errors import Withheld
from .fields import ImageToImage, Painting
from .options import Options
from .painting import Finish, Wanted
from .samplers import shown_name

_PICTURES = ("init_images", "mask")
_UNVARIED = {"variation_seed": -1, "variation_strength": 0.0}


def painted(
    done: Mapping[int, Picture], batch: Batch, wanted: Wanted, options: Options, fields: Painting
) -> bytes:
    """The body of the answer to txt2img and img2img.

    done: the batch's pictures, by their places. fields: what was asked, which the answer repeats.
    Raises Withheld where there is none that may be shown.
    """
    shown = {place: picture for place, picture in done.items() if picture.image is not None}
    if done and not shown:
        raise Withheld("the model's safety checker withholds what was painted", param="prompt")
    images = (
        [_text(picture, wanted.finishes[place], options) for place, picture in shown.items()]
        if fields.send_images
        else []
    )
    gone = (
        dict.fromkeys(_PICTURES)
        if isinstance(fields, ImageToImage) and not fields.include_init_images
        else {}
    )
    again = {**fields.model_dump(exclude={"include_init_images"}), **gone}
    answer = {
        "images": images,
        "parameters": json.loads(json.dumps(again), parse_constant=_no_number),
        "info": json.dumps(_info(list(shown.values()), batch, wanted)),
    }
    return json.dumps(answer).encode()


def _no_number(name: str) -> None:
    """NaN and infinities are no JSON, and come in all the same."""


def _text(picture: Picture, finish: Finish, options: Options) -> str:
    """A picture as a client decodes it."""
    assert picture.image is not None
    file = pictures.encoded(
        finish(picture.image), picture.info, options.format, options.jpeg_quality
    )
    return pictures.text(file)


def _info(done: Sequence[Picture], batch: Batch, wanted: Wanted) -> dict[str, Any]:
    """What webui's text says of its pictures; of pictures that were not painted nothing."""
    asked = wanted.each[0]
    first: Mapping[str, Any] = done[0].info if done else asked.arguments
    seeds: list[int | None] = [picture.seed for picture in done] or [asked.seed]
    varied = [{**_UNVARIED, **picture.info} for picture in done] or [{**_UNVARIED, **first}]
    width, height = _size({**first, **asked.arguments}, done)
    layer = first.get("clip_layer") or 1 + int(first.get("clip_skip", 0))
    return {
        "prompt": wanted.prompt,
        "all_prompts": [wanted.prompt] * len(seeds),
        "negative_prompt": wanted.negative_prompt,
        "all_negative_prompts": [wanted.negative_prompt] * len(seeds),
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": varied[0]["variation_seed"],
        "all_subseeds": [one["variation_seed"] for one in varied],
        "subseed_strength": varied[0]["variation_strength"],
        "width": width,
        "height": height,
        "sampler_name": shown_name(str(first.get("scheduler") or first.get("solver") or "")),
        "cfg_scale": first.get("guidance_scale"),
        "steps": first.get("num_inference_steps"),
        "batch_size": len(batch.jobs),
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": asked.model,
        "sd_model_hash": first.get("model_digest"),
        "sd_vae_name": first.get("vae"),
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": first.get("strength", first.get("enlarge_strength")),
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [infotext.write(picture.info) for picture in done],
        "styles": [],
        "job_timestamp": stamp(batch.created),
        "clip_skip": layer,
        "is_using_inpainting_conditioning": False,
        "version": first.get("version"),
        "comments": list(wanted.comments),
    }


def _size(info: Mapping[str, Any], done: Sequence[Picture]) -> tuple[int | None, int | None]:
    """Of what was painted, else of the picture that came of it."""
    if "width" in info and "height" in info:
        return info["width"], info["height"]
    image = done[0].image if done else None
    return image.size if image else (None, None)


def stamp(seconds: float) -> str:
    """A time as webui writes it: 20261129164500."""
    return time.strftime("%Y%m%d%H%M%S", time.localtime(seconds))
