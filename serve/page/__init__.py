"""The page: what people paint with in a browser. It is a client of `/v1/jobs` like any other."""

from fastapi import FastAPI

from ..service import Service
from ..settings import Settings
from .routes import router


def mount(app: FastAPI, service: Service, settings: Settings) -> None:
    """The page at `/`, with what it needs beside the APIs under `/page/`."""
    app.include_router(router(service, settings))
