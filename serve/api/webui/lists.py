"""What there is to choose from, as webui lists it. Names alone: nobody learns where files lie."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from pleinair.runtime.speed import machine
from pleinair.runtime.text.styles import styles

from ...access import client_of
from . import controls, samplers, upscaling
from .options import TINY_VAE
from .painting import family_of
from .server import Server

Listed = list[dict[str, Any]]


def router(server: Server) -> APIRouter:
    made = APIRouter()

    @made.get("/sd-models")
    async def sd_models() -> Listed:
        """The titles are what `sd_model_checkpoint` takes."""
        digests = await asyncio.to_thread(_digests, server)
        return [
            {
                "title": name,
                "model_name": name,
                "hash": digest or None,
                "sha256": None,
                "filename": name,
                "config": None,
            }
            for name, digest in digests.items()
        ]

    @made.get("/samplers")
    async def listed_samplers(request: Request) -> Listed:
        """Those for the client's model."""
        model = server.options(client_of(request)).model
        family = await asyncio.to_thread(family_of, server.models, model)
        return samplers.listed(family.bundle.scheduler)

    @made.get("/schedulers")
    async def schedulers() -> Listed:
        """How sigmas are spaced."""
        return [
            {
                "name": name,
                "label": label,
                "aliases": None,
                "default_rho": -1,
                "need_inner_model": False,
            }
            for name, label in samplers.SPACINGS.items()
        ]

    @made.get("/upscalers")
    async def upscalers(request: Request) -> Listed:
        """What extra-single-image knows."""
        return upscaling.listed(server.options(client_of(request)).model)

    @made.get("/sd-vae")
    @made.get("/sd-modules")
    async def sd_vae(request: Request) -> Listed:
        """Beside the model's own: its tiny decoder, where it has one."""
        model = server.options(client_of(request)).model
        family = await asyncio.to_thread(family_of, server.models, model)
        if not family.bundle.has(family.tiny_decoder):
            return []
        return [{"model_name": TINY_VAE, "filename": TINY_VAE}]

    @made.get("/loras")
    async def loras() -> Listed:
        """Written into a prompt as <lora:name:0.8>."""
        return [
            {"name": name, "alias": name, "path": name, "metadata": {}}
            for name in server.models.loras
        ]

    @made.get("/prompt-styles")
    async def prompt_styles() -> Listed:
        return [
            {"name": one.name, "prompt": one.prompt, "negative_prompt": one.negative}
            for one in styles().values()
        ]

    @made.get("/embeddings")
    async def embeddings() -> dict[str, Any]:
        return {"loaded": {}, "skipped": {}}

    for name in ("latent-upscale-modes", "hypernetworks", "face-restorers", "realesrgan-models"):
        made.add_api_route(f"/{name}", _nothing, methods=["GET"], name=name)
    made.add_api_route("/extensions", _nothing, methods=["GET"], name="extensions")

    @made.get("/scripts")
    async def scripts() -> dict[str, list[str]]:
        names = _scripts(server)
        return {"txt2img": names, "img2img": names}

    @made.get("/script-info")
    async def script_info() -> Listed:
        return [
            {"name": name, "is_alwayson": True, "is_img2img": is_img2img, "args": []}
            for name in _scripts(server)
            for is_img2img in (False, True)
        ]

    @made.get("/cmd-flags")
    async def cmd_flags() -> dict[str, Any]:
        """Of webui's flags those that are so here."""
        return {"api": True, "nowebui": False, "use_cpu": ["all"], "port": server.settings.port}

    @made.get("/memory")
    async def memory() -> dict[str, Any]:
        known = machine.memory()
        total, free = known or (0, 0)
        ram = {"free": free, "used": total - free, "total": total}
        return {"ram": ram if known else {"error": "unknown"}, "cuda": {"error": "unavailable"}}

    return made


async def _nothing() -> Listed:
    """There are none here."""
    return []


def _scripts(server: Server) -> list[str]:
    return [controls.SCRIPT] if server.models.controlnets else []


def _digests(server: Server) -> dict[str, str]:
    """Of each model a few digits that stand for its files."""
    names = server.models.folders
    return {name: family_of(server.models, name).bundle.digest for name in names}
