"""What sd-webui-controlnet's clients ask before they paint, where ControlNets are served."""

import asyncio
from typing import Any

from fastapi import APIRouter
from PIL import Image

from pleinair.runtime.images.reading import over

from ... import pictures
from . import controls
from .errors import in_webuis_words
from .fields import ToDetect
from .server import Server

_VERSION = 2
"""Of that extension's API."""


def router(server: Server) -> APIRouter:
    made = APIRouter(prefix="/controlnet", tags=["webui"])
    nets = list(server.models.controlnets)
    modules = list(controls.MODULES)

    @made.get("/version")
    async def version() -> dict[str, Any]:
        return {"version": _VERSION}

    @made.get("/settings")
    async def settings() -> dict[str, Any]:
        return {"control_net_unit_count": len(nets)}

    @made.get("/model_list")
    async def model_list() -> dict[str, Any]:
        return {"model_list": nets}

    @made.get("/module_list")
    async def module_list() -> dict[str, Any]:
        return {"module_list": modules}

    @made.get("/control_types")
    async def control_types() -> dict[str, Any]:
        kinds = {
            "module_list": modules,
            "model_list": nets,
            "default_option": modules[0],
            "default_model": nets[0],
        }
        return {"control_types": {"All": kinds}}

    @made.post("/detect")
    async def detect(fields: ToDetect) -> dict[str, Any]:
        """Pictures as a ControlNet would follow them."""

        def detected() -> list[str]:
            return [pictures.text(pictures.encoded(one, {})) for one in _seen(fields, server)]

        with in_webuis_words():
            return {"images": await asyncio.to_thread(detected), "info": "Success"}

    return made


def _seen(fields: ToDetect, server: Server) -> list[Image.Image]:
    module = controls.module(fields.module)
    found = []
    for text in fields.pictures[: server.settings.max_n]:
        picture = over(pictures.received(text, server.settings), "black")
        edged = module == "canny"
        found.append(
            controls.edges(picture, fields.threshold_a, fields.threshold_b) if edged else picture
        )
    return found
