"""AUTOMATIC1111's webui, as its clients call it: `/sdapi/v1/…`, `/internal/…` and `/controlnet/…`.

A client's options, its progress and what it interrupts are its own: see `options` and `batch`.
"""

from fastapi import APIRouter

from ...service import Service
from ...settings import Settings
from . import controlnet, endpoints, extras, lists, progress
from .server import Server


def router(service: Service, settings: Settings) -> APIRouter:
    server = Server(service, settings)
    made = APIRouter(tags=["webui"])
    for part in (endpoints, progress, extras, lists):
        made.include_router(part.router(server), prefix="/sdapi/v1")
    made.include_router(progress.of_tasks(server))
    if server.models.controlnets:
        made.include_router(controlnet.router(server))
    return made
