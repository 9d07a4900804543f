"""The application: every API over one service, and who may ask."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from pleinair.runtime import __version__

from . import page
from .access import Access, Keys
from .api import errors, jobs, openai, status, webui
from .api.files import Files
from .api.files import router as files_router
from .api.mcp import PATH, Mcp
from .service import Service
from .settings import Settings

_TOLD = ["Retry-After", "x-should-retry"]
"""Headers that pages of other origins may read."""


def create_app(service: Service, settings: Settings) -> FastAPI:
    """The application; when it is shut down the service is closed.

    Raises SettingError where the keys cannot be read.
    """
    keys, files, mcp = Keys.read(settings.api_key_file), Files(), Mcp(service, settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with mcp.run():
            yield
        await service.close(settings.drain)

    app = FastAPI(
        title="Pleinair",
        version=__version__,
        description="Pictures from text, painted on this machine.",
        lifespan=lifespan,
        docs_url=None,  # these pages fetch their scripts from elsewhere
        redoc_url=None,
    )
    errors.handle(app)
    for router in (
        status.router(service),
        files_router(files),
        openai.router(service, settings, files),
        jobs.router(service, settings, keys),
        webui.router(service, settings),
    ):
        app.include_router(router)
    page.mount(app, service, settings)
    app.router.routes.append(Route(PATH, mcp))
    app.add_middleware(Access, settings=settings, keys=keys)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_TOLD,
        )
    return app
